// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

interface Hooked {
    function tokensReceived() external;
}

/// A token that moves the amount and then answers as it was told to; or fails, or burns its gas, after moving it.
contract OddToken is ERC20 {
    enum Answer {
        Nothing,
        True,
        False,
        Two,
        TrueThenShort,
        TrueAndMore,
        Bomb,
        RevertingBomb,
        Burn
    }

    Answer private immutable _answer;
    bool private _hasSpoken;

    constructor(Answer answer, address owner, uint256 amount) ERC20("Odd", "ODD") {
        _answer = answer;
        _mint(owner, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        super.transferFrom(from, to, amount);
        Answer answer = _answer;
        if (answer == Answer.TrueThenShort && !_hasSpoken) answer = Answer.True;
        _hasSpoken = true;
        assembly {
            mstore(0, 1)
            switch answer
            case 0 {
                return(0, 0)
            }
            case 1 {
                return(0, 32)
            }
            case 2 {
                mstore(0, 0)
                return(0, 32)
            }
            case 3 {
                mstore(0, 2)
                return(0, 32)
            }
            case 4 {
                mstore(0, 0)
                return(0, 31)
            }
            case 5 {
                return(0, 64)
            }
            case 6 {
                return(0, 120000)
            }
            case 7 {
                revert(0, 120000)
            }
        }
        assembly {
            invalid()
        }
    }
}

/// Tells a recipient with code of every transfer, as ERC-777 does; but not of a single unit.
contract HookToken is ERC20 {
    constructor(address owner, uint256 amount) ERC20("Hooked", "HOOK") {
        _mint(owner, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        super.transferFrom(from, to, amount);
        if (to.code.length != 0 && amount != 1) Hooked(to).tokensReceived();
        return true;
    }
}
