// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A plain second token for local chains, with 18 decimals, so that nothing takes six for granted.
contract LocalDAI is ERC20, Ownable {
    constructor(address owner) ERC20("Local Dai", "DAI") Ownable(owner) {}

    /// @notice Create `amount` of the smallest unit (1e-18) for `to`.
    function mint(address to, uint256 amount) external onlyOwner {
        _mint(to, amount);
    }
}
