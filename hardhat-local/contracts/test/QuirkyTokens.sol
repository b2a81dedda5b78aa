// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {BeaconProxy} from "@openzeppelin/contracts/proxy/beacon/BeaconProxy.sol";
import {UpgradeableBeacon} from "@openzeppelin/contracts/proxy/beacon/UpgradeableBeacon.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// Nothing odd but that it calls itself what it likes: a look-alike, if that is another token's name. With permit.
contract NamedToken is ERC20Permit {
    uint8 private immutable _decimals;

    constructor(string memory name_, string memory symbol_, uint8 decimals_, address owner, uint256 amount)
        ERC20(name_, symbol_)
        ERC20Permit(name_)
    {
        _decimals = decimals_;
        _mint(owner, amount);
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }
}

/// Answers false and logs nothing where others revert.
contract FalseToken is ERC20 {
    constructor(address owner, uint256 amount) ERC20("False", "FALSE") {
        _mint(owner, amount);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        return balanceOf(_msgSender()) >= amount && super.transfer(to, amount);
    }
}

/// Keeps one part in a hundred of each transfer; its events tell what arrived, and what it kept.
contract FeeToken is ERC20 {
    constructor(address owner, uint256 amount) ERC20("Fee", "FEE") {
        _mint(owner, amount);
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function _update(address from, address to, uint256 amount) internal override {
        uint256 kept = from == address(0) ? 0 : amount / 100;
        if (kept != 0) super._update(from, address(this), kept);
        super._update(from, to, amount - kept);
    }
}

/// An ERC-20 of its own making, whose event needn't tell what moves.
abstract contract OwnWords {
    event Transfer(address indexed from, address indexed to, uint256 value);

    mapping(address account => uint256) internal _held;

    constructor(address owner, uint256 amount) {
        _held[owner] = amount;
        emit Transfer(address(0), owner, amount);
    }

    function decimals() external pure returns (uint8) {
        return 6;
    }

    function balanceOf(address account) public view virtual returns (uint256) {
        return _held[account];
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        _held[msg.sender] -= _moved(amount);
        _held[to] += _arriving(amount);
        emit Transfer(msg.sender, to, amount);
        return true;
    }

    function _moved(uint256 amount) internal view virtual returns (uint256) {
        return amount;
    }

    function _arriving(uint256 amount) internal view virtual returns (uint256) {
        return amount;
    }
}

/// Says in its event what was sent; one part in a hundred less arrives.
contract BoastingToken is OwnWords {
    constructor(address owner, uint256 amount) OwnWords(owner, amount) {}

    function _arriving(uint256 amount) internal pure override returns (uint256) {
        return amount - amount / 100;
    }
}

/// Tells of transfers and moves nothing.
contract LyingToken is OwnWords {
    constructor(address owner, uint256 amount) OwnWords(owner, amount) {}

    function _moved(uint256) internal pure override returns (uint256) {
        return 0;
    }

    function _arriving(uint256) internal pure override returns (uint256) {
        return 0;
    }
}

/// Every balance is a share of something that grows or shrinks, and no event tells when it does.
contract RebasingToken is OwnWords {
    uint256 private _percent = 100;

    constructor(address owner, uint256 amount) OwnWords(owner, amount) {}

    function rebase(uint256 percent) external {
        _percent = percent;
    }

    function balanceOf(address account) public view override returns (uint256) {
        return (_held[account] * _percent) / 100;
    }

    function _moved(uint256 amount) internal view override returns (uint256) {
        return (amount * 100) / _percent;
    }

    function _arriving(uint256 amount) internal view override returns (uint256) {
        return (amount * 100) / _percent;
    }
}

/// An implementation to stand behind a proxy; anybody may exchange it, and change the decimals.
contract Upgradable is ERC20, UUPSUpgradeable {
    uint8 private _decimals;
    uint256 public immutable version;

    constructor(uint256 version_) ERC20("", "") {
        version = version_; // so that two of them differ in their code
    }

    function initialize(uint8 decimals_, address owner, uint256 amount) external {
        _decimals = decimals_;
        _mint(owner, amount);
    }

    function setDecimals(uint8 decimals_) external {
        _decimals = decimals_;
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    function _authorizeUpgrade(address) internal override {}
}

/// Moves another's allowance to several recipients at once, or in a call that is taken back.
contract Moves {
    function many(ERC20 token, address[] calldata to, uint256[] calldata amounts) external {
        for (uint256 i = 0; i < to.length; ++i) {
            token.transferFrom(msg.sender, to[i], amounts[i]);
        }
    }

    function inVain(ERC20 token, address to, uint256 amount) external {
        try this.moveAndFail(token, msg.sender, to, amount) {} catch {}
    }

    function moveAndFail(ERC20 token, address from, address to, uint256 amount) external {
        token.transferFrom(from, to, amount);
        revert("taken back");
    }
}

/// A proxy that begins with an implementation (EIP-1967).
contract TestProxy is ERC1967Proxy {
    constructor(address implementation, bytes memory call) ERC1967Proxy(implementation, call) {}
}

/// A proxy that asks a beacon for its implementation (EIP-1967).
contract TestBeaconProxy is BeaconProxy {
    constructor(address beacon, bytes memory call) BeaconProxy(beacon, call) {}
}

contract TestBeacon is UpgradeableBeacon {
    constructor(address implementation, address owner) UpgradeableBeacon(implementation, owner) {}
}
