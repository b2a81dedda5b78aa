// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// Pays ether on by inner calls: no event tells of it, and no transaction names the one who is paid.
contract Payer {
    receive() external payable {}

    function pay(address payable to) external payable {
        _send(to, msg.value);
    }

    /// Each its amount; nothing is sent where the amount is zero but the call.
    function payMany(address payable[] calldata to, uint256[] calldata amounts) external payable {
        for (uint256 i = 0; i < to.length; ++i) {
            _send(to[i], amounts[i]);
        }
    }

    /// Pays through another call of its own, one level further down for each `depth`.
    function payDeep(address payable to, uint256 depth) external payable {
        if (depth == 0) {
            _send(to, msg.value);
        } else {
            this.payDeep{value: msg.value}(to, depth - 1);
        }
    }

    /// Pays inside a call that is taken back, and then `kept` for good. The transaction itself succeeds.
    function payAndTakeBack(address payable to, uint256 kept) external payable {
        try this.payAndFail{value: msg.value}(to) {
            revert("it should have failed");
        } catch {
            _send(to, kept);
        }
    }

    function payAndFail(address payable to) external payable {
        this.pay{value: msg.value}(to);
        revert("taken back");
    }

    function _send(address payable to, uint256 amount) private {
        (bool done, ) = to.call{value: amount}("");
        require(done, "not taken");
    }
}

/// Is gone before it was there: its creation code leaves all that came with it to an heir.
contract Stillborn {
    constructor(address payable heir) payable {
        assembly {
            selfdestruct(heir)
        }
    }
}

/// Leaves what it has to an heir, when told to.
contract Mortal {
    receive() external payable {}

    function end(address payable heir) external {
        assembly {
            selfdestruct(heir)
        }
    }
}
