// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {OnebookPayout} from "../OnebookPayout.sol";

/// Takes what comes.
contract Accepts {
    receive() external payable {}
}

/// Wants no ether.
contract Refuses {
    receive() external payable {
        revert("no, thank you");
    }
}

/// Uses up all gas it is given.
contract Burns {
    receive() external payable {
        assembly {
            invalid()
        }
    }
}

/// Answers as many bytes as the gas it is given can pay for, and fails or not.
contract Bombs {
    bool private immutable _fails;

    constructor(bool fails) {
        _fails = fails;
    }

    receive() external payable {
        bool fails = _fails;
        assembly {
            if fails {
                revert(0, 120000)
            }
            return(0, 120000)
        }
    }
}

/// Takes ether only if given at least so much gas; as code that needs that much would behave.
contract Needs {
    uint256 private immutable _gas;

    constructor(uint256 gas_) {
        _gas = gas_;
    }

    receive() external payable {
        require(gasleft() >= _gas, "too little gas");
    }
}

/// Writes down how much gas it was given.
contract Meters {
    uint256 public given;

    receive() external payable {
        given = gasleft();
    }
}

/// Whenever it gets something, pays one unit to itself through the payout contract: ether, or `token` if that isn't zero.
contract Reenters {
    OnebookPayout private immutable _payout;
    address private immutable _token;
    bool private immutable _insists;

    /// 1 if the last attempt went through, else the four bytes of the error it was refused with.
    uint256 public outcome;

    /// With `insists` it refuses what it gets if its attempt is refused.
    constructor(address payout, address token, bool insists) payable {
        _payout = OnebookPayout(payout);
        _token = token;
        _insists = insists;
        if (token != address(0)) Allowing(token).approve(payout, type(uint256).max);
    }

    receive() external payable {
        // what the attempt itself brings is no new occasion
        if (msg.value != 1) strike();
    }

    /// What a token with hooks calls.
    function tokensReceived() external {
        strike();
    }

    /// Be the sender of a batch.
    function pay(bytes calldata batch) external payable {
        (bool ok, bytes memory why) = address(_payout).call{value: msg.value}(batch);
        if (!ok) _fail(why);
    }

    function strike() public {
        OnebookPayout.Payment[] memory legs = new OnebookPayout.Payment[](1);
        legs[0] = OnebookPayout.Payment(bytes32("again"), address(this), 1);
        bool native = _token == address(0);
        bytes memory attempt = native
            ? abi.encodeCall(OnebookPayout.payNative, (legs))
            : abi.encodeCall(OnebookPayout.payToken, (_token, legs));
        (bool ok, bytes memory why) = address(_payout).call{value: native ? 1 : 0}(attempt);
        if (!ok && _insists) _fail(why);
        outcome = ok ? 1 : uint32(bytes4(why));
    }

    function _fail(bytes memory why) private pure {
        assembly {
            revert(add(why, 0x20), mload(why))
        }
    }
}

interface Allowing {
    function approve(address spender, uint256 amount) external returns (bool);
}

/// Pays through the payout contract, and takes back what wasn't spent, or not.
contract Pays {
    bool private immutable _takes;

    constructor(bool takes) {
        _takes = takes;
    }

    function pay(address payout, bytes calldata batch) external payable {
        _pay(payout, msg.value, batch);
    }

    function payTwice(address payout, bytes calldata batch) external payable {
        _pay(payout, msg.value / 2, batch);
        _pay(payout, msg.value / 2, batch);
    }

    receive() external payable {
        require(_takes, "keep it");
    }

    function _pay(address payout, uint256 value, bytes calldata batch) private {
        (bool ok, bytes memory why) = payout.call{value: value}(batch);
        if (!ok) {
            assembly {
                revert(add(why, 0x20), mload(why))
            }
        }
    }
}

/// Forces ether on an address that takes none.
contract Forces {
    constructor(address payable to) payable {
        selfdestruct(to);
    }
}

/// What the payout contract must not be: it calls anything for anybody, and so spends every allowance given to it.
contract GeneralMulticall {
    function call(address target, bytes calldata what) external {
        (bool ok, ) = target.call(what);
        require(ok, "failed");
    }
}

/// The payout contract without the look at the gas that is left: the control of the attack by a low gas limit.
contract CarelessPayout {
    event Leg(bytes32 indexed id, address to, uint256 amount, bool paid);

    function payNative(OnebookPayout.Payment[] calldata legs) external payable {
        for (uint256 i = 0; i < legs.length; ++i) {
            (bool paid, ) = legs[i].to.call{value: legs[i].amount, gas: 50_000}("");
            emit Leg(legs[i].id, legs[i].to, legs[i].amount, paid);
        }
    }
}
