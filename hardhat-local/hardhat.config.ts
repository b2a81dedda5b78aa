// Compiles the contracts with the compiler from npm (no download) and runs the development node that `chain/local.py`
// starts. What differs from run to run comes from the environment; a hand-started node gets the defaults.
import { createRequire } from "node:module";

import { defineConfig } from "hardhat/config";

const installed = createRequire(import.meta.url);
const SOLC = { version: "0.8.37", path: installed.resolve("solc/soljson.js") };
// of the time when tokens were written whose transfers answer nothing
const SOLC_OF_2018 = { version: "0.4.26", path: installed.resolve("solc-0.4/soljson.js") };
const PUBLIC_TEST_MNEMONIC = "test test test test test test test test test test test junk";

export default defineConfig({
  solidity: {
    compilers: [
      {
        ...SOLC,
        settings: {
          // Prague runs on Hardhat, anvil and py-evm alike
          evmVersion: "prague",
          optimizer: { enabled: true, runs: 200 },
        },
      },
      { ...SOLC_OF_2018, settings: { optimizer: { enabled: true, runs: 200 } } },
    ],
    overrides: {
      // The one contract that goes to real networks, so its bytes depend on nothing but its source and what stands here.
      // Cancun is the oldest with transient storage. Nothing but code: no metadata and no hash of it behind.
      "contracts/OnebookPayout.sol": {
        ...SOLC,
        settings: {
          evmVersion: "cancun",
          viaIR: false,
          optimizer: { enabled: true, runs: 10_000 },
          metadata: { bytecodeHash: "none", appendCBOR: false },
        },
      },
    },
  },
  networks: {
    node: {
      type: "edr-simulated",
      chainType: "l1",
      chainId: Number(process.env.ONEBOOK_LOCAL_CHAIN_ID ?? 31337),
      hardfork: "prague",
      // EIP-7825, which Osaka brings to every network: no transaction of ours may need more
      transactionGasCap: 2 ** 24,
      accounts: {
        mnemonic: process.env.ONEBOOK_LOCAL_MNEMONIC ?? PUBLIC_TEST_MNEMONIC,
        count: 10,
        accountsBalance: (1_000_000n * 10n ** 18n).toString(),
      },
      // as a real node does: a transaction that reverts is mined, and its sender reads so in the receipt
      throwOnTransactionFailures: false,
    },
  },
});
