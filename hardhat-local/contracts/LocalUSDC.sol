// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Pausable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Pausable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title A stablecoin for local chains that behaves like Circle's USDC where a wallet can notice.
/// @notice 6 decimals, minted by the owner, pausable, with a blocklist and ERC-2612 permits. The names of the blocklist's
/// functions and events are Circle's, so whatever watches them here works there. Not upgradeable, and worth nothing.
contract LocalUSDC is ERC20Pausable, ERC20Permit, Ownable {
    mapping(address account => bool) private _blacklisted;

    event Blacklisted(address indexed account);
    event UnBlacklisted(address indexed account);

    /// @notice `account` may neither send, receive, approve nor spend.
    error AccountBlacklisted(address account);

    constructor(address owner) ERC20("Local USD Coin", "USDC") ERC20Permit("Local USD Coin") Ownable(owner) {}

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    /// @notice Create `amount` millionths of a dollar for `to`.
    function mint(address to, uint256 amount) external onlyOwner {
        _mint(to, amount);
    }

    /// @notice Destroy `amount` of the caller's own coins.
    function burn(uint256 amount) external {
        _burn(_msgSender(), amount);
    }

    function pause() external onlyOwner {
        _pause();
    }

    function unpause() external onlyOwner {
        _unpause();
    }

    function blacklist(address account) external onlyOwner {
        _blacklisted[account] = true;
        emit Blacklisted(account);
    }

    function unBlacklist(address account) external onlyOwner {
        _blacklisted[account] = false;
        emit UnBlacklisted(account);
    }

    function isBlacklisted(address account) public view returns (bool) {
        return _blacklisted[account];
    }

    /// @dev Every mint, burn and transfer passes here; the caller counts too, since it may spend an allowance.
    function _update(address from, address to, uint256 amount) internal override(ERC20, ERC20Pausable) {
        _refuseBlacklisted(_msgSender());
        _refuseBlacklisted(from);
        _refuseBlacklisted(to);
        super._update(from, to, amount);
    }

    /// @dev Every approval and permit passes here, and every use of one.
    function _approve(address owner, address spender, uint256 amount, bool emitEvent) internal override whenNotPaused {
        _refuseBlacklisted(owner);
        _refuseBlacklisted(spender);
        super._approve(owner, spender, amount, emitEvent);
    }

    function _refuseBlacklisted(address account) private view {
        if (_blacklisted[account]) revert AccountBlacklisted(account);
    }
}
