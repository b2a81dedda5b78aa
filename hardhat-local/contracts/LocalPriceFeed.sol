// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// @title A price feed for local chains with the interface of Chainlink's aggregators (AggregatorV3Interface).
/// @notice Its owner says what the price is, and when. Worth nothing.
contract LocalPriceFeed is Ownable {
    uint8 public immutable decimals;
    string public description;
    uint256 public constant version = 1;

    uint80 private _round;
    int256 private _answer;
    uint256 private _updatedAt;

    event AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt);

    constructor(address owner, uint8 decimals_, string memory description_) Ownable(owner) {
        decimals = decimals_;
        description = description_;
    }

    /// @notice Tell a price, in units of `decimals`. `updatedAt` 0 means the block's time.
    function setAnswer(int256 answer, uint256 updatedAt) external onlyOwner {
        _round += 1;
        _answer = answer;
        _updatedAt = updatedAt == 0 ? block.timestamp : updatedAt;
        emit AnswerUpdated(answer, _round, _updatedAt);
    }

    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        return (_round, _answer, _updatedAt, _updatedAt, _round);
    }
}
