// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Pays many recipients in one transaction, out of the caller's own money only.
/// @notice Nobody owns it, nothing can change it, and it keeps nothing: no storage, no balance, no allowance that anyone
/// but its giver can use. A leg that can't be paid is reported and leaves the others alone; its money stays with, or goes
/// back to, the caller in the same transaction.
/// @dev What is decided here once and can't be mended later:
/// - The only outside calls are a plain transfer of the caller's own ether, `transferFrom(msg.sender, ...)`, and the
///   return of what wasn't spent. So an allowance to this contract is worth nothing to anybody but who gave it.
/// - No `receive`, no `fallback`, no delegatecall, no constructor argument.
/// - Ether that is forced in (SELFDESTRUCT, block rewards) is never counted: what legs may spend and what goes back is
///   reckoned from `msg.value`, not from the balance. It stays here for ever.
/// - Ids are only repeated in the events. Without storage nothing can be remembered, so that no id is paid twice is the
///   business of who signs.
contract OnebookPayout {
    /// @notice One leg to be paid: `amount` in smallest units.
    struct Payment {
        bytes32 id;
        address to;
        uint256 amount;
    }

    /// @notice What became of a leg; one for each, in the order of the call.
    event Leg(bytes32 indexed id, address to, uint256 amount, bool paid);

    /// @notice Somebody who was being paid, or a token, called back in.
    error Reentered();
    /// @notice A call pays 1 to 100 legs.
    error WrongNumberOfLegs(uint256 legs);
    /// @notice The legs come to more than was sent along.
    error ValueBelowSum(uint256 value, uint256 sum);
    /// @notice What gas is left can't give the leg at this index its fixed share.
    error GasTooLow(uint256 leg);
    /// @notice The caller refused what wasn't spent.
    error UnspentNotReturned(uint256 unspent);

    /// @dev A hundred legs that all burn whatever they get still fit under the 2^24 gas of a transaction (EIP-7825).
    uint256 private constant LEGS_MAX = 100;

    /// @dev Gas that a recipient of ether may use: enough for a proxied wallet that writes and logs. The EVM adds its
    /// stipend of 2300 to it.
    uint256 private constant NATIVE_GAS = 50_000;

    /// @dev Gas that a token may use: twice what USDC behind its proxy takes for a first-time recipient.
    uint256 private constant TOKEN_GAS = 120_000;

    /// @dev What may be spent between looking at the gas and the start of the call: a cold address (2600), value (9000)
    /// and a new account (25000), the call data in memory; the rest is room for dearer networks. It must only be there.
    uint256 private constant CALL_RESERVE = 60_000;

    /// @dev A call gets at most 63/64 of what is left and silently less than asked for (EIP-150). Whoever picks a low gas
    /// limit could so make a sound leg fail while the batch succeeds; hence these must be left, or nothing happens.
    uint256 private constant NATIVE_GAS_LEFT = (NATIVE_GAS * 64) / 63 + CALL_RESERVE;
    uint256 private constant TOKEN_GAS_LEFT = (TOKEN_GAS * 64) / 63 + CALL_RESERVE;

    /// @dev Transient (EIP-1153): gone with the transaction, so the contract has no storage.
    bool private transient paying;

    /// @dev One call at a time over both functions. Reset afterwards, since a contract may pay two batches in one
    /// transaction.
    modifier batch(uint256 legs) {
        if (paying) revert Reentered();
        if (legs == 0 || legs > LEGS_MAX) revert WrongNumberOfLegs(legs);
        paying = true;
        _;
        paying = false;
    }

    /// @notice Pay ether to each leg out of the value sent along; what isn't spent comes back.
    function payNative(Payment[] calldata legs) external payable batch(legs.length) {
        uint256 sum = 0;
        for (uint256 i = 0; i < legs.length; ++i) {
            sum += legs[i].amount; // checked: a sum past 2^256 reverts
        }
        if (sum > msg.value) revert ValueBelowSum(msg.value, sum);

        uint256 unspent = msg.value;
        for (uint256 i = 0; i < legs.length; ++i) {
            if (gasleft() < NATIVE_GAS_LEFT) revert GasTooLow(i);
            Payment calldata leg = legs[i];
            bool paid = _sendNative(leg.to, leg.amount);
            if (paid) unspent -= leg.amount;
            emit Leg(leg.id, leg.to, leg.amount, paid);
        }
        if (unspent != 0 && !_returnNative(unspent)) revert UnspentNotReturned(unspent);
    }

    /// @notice Pay `token` to each leg out of the caller's own balance, by the allowance that the caller gave.
    function payToken(address token, Payment[] calldata legs) external batch(legs.length) {
        for (uint256 i = 0; i < legs.length; ++i) {
            if (gasleft() < TOKEN_GAS_LEFT) revert GasTooLow(i);
            Payment calldata leg = legs[i];
            bool paid = _pullToken(token, leg.to, leg.amount);
            emit Leg(leg.id, leg.to, leg.amount, paid);
        }
    }

    /// @dev In assembly, because Solidity copies all of the answer, at our cost, however long the recipient makes it.
    function _sendNative(address to, uint256 amount) private returns (bool paid) {
        assembly ("memory-safe") {
            paid := call(NATIVE_GAS, to, amount, 0, 0, 0, 0)
        }
    }

    /// @dev The caller's own code may need any amount of gas, and harms only itself: so there is no fixed share here.
    function _returnNative(uint256 unspent) private returns (bool returned) {
        assembly ("memory-safe") {
            returned := call(gas(), caller(), unspent, 0, 0, 0, 0)
        }
    }

    /// @dev Paid if there is code, the call goes well, and it answers nothing or true. A call to an address without code
    /// goes well too, hence the first. Exactly one word of the answer is copied, to the scratch space.
    function _pullToken(address token, address to, uint256 amount) private returns (bool paid) {
        if (token.code.length == 0) return false;
        bytes memory pull = abi.encodeCall(Token.transferFrom, (msg.sender, to, amount));
        assembly ("memory-safe") {
            paid := call(TOKEN_GAS, token, 0, add(pull, 0x20), mload(pull), 0, 0x20)
            let answered := returndatasize()
            if answered {
                // a shorter answer leaves old bytes in the scratch space, so its length is looked at first
                paid := and(paid, and(gt(answered, 0x1f), eq(mload(0), 1)))
            }
        }
    }
}

/// @dev ERC-20; tokens that answer nothing are called by the same four bytes.
interface Token {
    function transferFrom(address from, address to, uint256 amount) external returns (bool);
}
