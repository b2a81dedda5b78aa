// Compiles the contracts with the compiler from npm (no download) and runs the development node that `chain/local.py`
// starts. What differs from run to run comes from the environment; a hand-started node gets the defaults.
import { createRequire } from "node:module";

import { defineConfig } from "hardhat/config";

const PUBLIC_TEST_MNEMONIC = "test test test test test test test test test test test junk";

export default defineConfig({
  solidity: {
    compilers: [
      {
        version: "0.8.37",
        path: createRequire(import.meta.url).resolve("solc/soljson.js"),
        settings: {
          // Prague runs on Hardhat, anvil and py-evm alike
          evmVersion: "prague",
          optimizer: { enabled: true, runs: 200 },
        },
      },
    ],
  },
  networks: {
    node: {
      type: "edr-simulated",
      chainType: "l1",
      chainId: Number(process.env.ONEBOOK_LOCAL_CHAIN_ID ?? 31337),
      hardfork: "prague",
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
