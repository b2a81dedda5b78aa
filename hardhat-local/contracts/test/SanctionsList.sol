// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// The interface of Chainalysis' public sanctions oracle, with a list that anybody may change.
contract SanctionsList {
    mapping(address => bool) private _listed;
    bool private _silent;

    function set(address who, bool listed) external {
        _listed[who] = listed;
    }

    /// From now on it refuses to answer, or answers again.
    function beSilent(bool silent) external {
        _silent = silent;
    }

    function isSanctioned(address who) external view returns (bool) {
        require(!_silent, "no answer");
        return _listed[who];
    }
}
