"""The resources under `/v1`, one file each. A route reads a request, calls one service, and shows what came back."""

from fastapi import APIRouter

from api.routes import (
    account_statements,
    adjustments,
    api_keys,
    approvals,
    assets,
    balances,
    bookkeeping,
    bulk,
    deposits,
    exchange,
    history,
    holds,
    me,
    networks,
    statements,
    top_ups,
    transfers,
    treasury,
    users,
    withdrawals,
)

ROUTERS: tuple[APIRouter, ...] = (
    me.router,
    assets.router,
    networks.router,
    balances.router,
    holds.router,
    history.router,
    account_statements.router,
    bulk.router,
    transfers.router,
    exchange.router,
    deposits.router,
    withdrawals.router,
    top_ups.router,
    users.router,
    api_keys.router,
    treasury.router,
    adjustments.router,
    approvals.router,
    bookkeeping.router,
    statements.router,
)
