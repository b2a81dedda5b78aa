-- Yardstick "call": one function call decides and writes one command, as a careful hand would write it in plpgsql.
--
-- The same rows as the engine's, in the same tables, by the same checks: the id's row is the idempotency record, accounts
-- are locked in the order of their numbers, refusals are remembered, every line carries both balances after it, and every
-- command its leaf. Two things are easier here than for the engine: seq comes from a sequence, so it may have gaps and
-- nobody waits for the book's row; and booked_at may fall as seq rises.

CREATE SEQUENCE bench_seq;

CREATE FUNCTION bench_record(
    p_book integer, p_book_name text, p_seq bigint, p_booked timestamptz, p_kind text, p_id text, p_key bytea,
    p_subject text, p_content bytea, p_refusal text, p_detail text, p_line_rows text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger_ids (book, key, seq) VALUES (p_book, p_key, p_seq);
    INSERT INTO ledger_commands (book, seq, booked_at, kind, id, subject, content, refusal, detail, leaf)
    VALUES (p_book, p_seq, p_booked, p_kind, p_id, p_subject, p_content, p_refusal, p_detail,
            sha256('\x00'::bytea || convert_to(
                p_book_name || E'\t' || p_seq || E'\t' || p_id || E'\t' || p_kind || E'\t' || coalesce(p_subject, '\N')
                || E'\t' || encode(p_content, 'hex') || E'\t' || coalesce(p_refusal, '\N')
                || E'\t' || coalesce(p_detail, '\N') || E'\t' || p_booked::text || E'\t\\N\t\\N' || p_line_rows,
                'UTF8')));
END $$;

-- An id that was decided before: its first outcome, or the conflict. Nothing if it's new.
CREATE FUNCTION bench_known(
    p_book integer, p_key bytea, p_content bytea, OUT seq bigint, OUT refusal text, OUT replayed boolean
) LANGUAGE plpgsql AS $$
DECLARE
    first record;
BEGIN
    SELECT i.seq INTO seq FROM ledger_ids i WHERE i.book = p_book AND i.key = p_key;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT c.content, c.refusal INTO first FROM ledger_commands c WHERE c.book = p_book AND c.seq = bench_known.seq;
    replayed := first.content = p_content;
    refusal := CASE WHEN replayed THEN first.refusal ELSE 'id_conflict' END;
END $$;

CREATE FUNCTION bench_enter(
    p_book integer, p_book_name text, p_kind text, p_id text, p_key bytea, p_subject text, p_content bytea,
    p_debits text[], p_credits text[], p_amounts text[], OUT seq bigint, OUT refusal text, OUT replayed boolean
) LANGUAGE plpgsql AS $$
DECLARE
    held ledger_accounts[];
    debit ledger_accounts;
    credit ledger_accounts;
    before numeric[];
    amount numeric;
    detail text;
    line_kind constant text := CASE p_kind WHEN 'hold' THEN 'held' ELSE 'posted' END;
    lines ledger_lines[] := '{}';
    line_rows text := '';
    booked timestamptz;
    d integer;
    c integer;
BEGIN
    SELECT * INTO seq, refusal, replayed FROM bench_known(p_book, p_key, p_content);
    IF seq IS NOT NULL THEN
        RETURN;
    END IF;
    replayed := false;
    SELECT array_agg(a) INTO held FROM (
        SELECT * FROM ledger_accounts
         WHERE book = p_book AND name = ANY(p_debits || p_credits) ORDER BY account FOR UPDATE) AS a;
    seq := nextval('bench_seq');
    booked := clock_timestamp();

    FOR p IN 1 .. cardinality(p_amounts) LOOP
        amount := p_amounts[p]::numeric;
        d := NULL; c := NULL;
        FOR i IN 1 .. coalesce(cardinality(held), 0) LOOP
            IF held[i].name = p_debits[p] THEN d := i; END IF;
            IF held[i].name = p_credits[p] THEN c := i; END IF;
        END LOOP;
        IF before IS NULL THEN
            SELECT array_agg(a.credits_posted - a.debits_posted - a.debits_pending + a.credit_line) INTO before
              FROM unnest(held) AS a;
        END IF;
        IF amount <= 0 THEN
            refusal := 'invalid_amount';
        ELSIF p_debits[p] = p_credits[p] THEN
            refusal := 'same_account';
        ELSIF d IS NULL OR c IS NULL THEN
            refusal := 'unknown_account';
        ELSIF held[d].asset <> held[c].asset THEN
            refusal := 'asset_mismatch';
        ELSIF held[d].closed OR held[c].closed THEN
            refusal := 'account_closed';
        ELSIF held[d].frozen OR held[c].frozen OR EXISTS (
            SELECT FROM ledger_freezes f WHERE f.book = p_book AND f.frozen
               AND (f.scope, f.target) IN (('owner', held[d].owner), ('owner', held[c].owner), ('asset', held[d].asset))
        ) THEN
            refusal := 'frozen';
        END IF;
        EXIT WHEN refusal IS NOT NULL;
        debit := held[d];
        credit := held[c];
        IF p_kind = 'hold' THEN
            debit.debits_pending := debit.debits_pending + amount;
            credit.credits_pending := credit.credits_pending + amount;
        ELSE
            debit.debits_posted := debit.debits_posted + amount;
            credit.credits_posted := credit.credits_posted + amount;
        END IF;
        held[d] := debit;
        held[c] := credit;
        lines := lines || ROW(seq, p_book, debit.account, credit.account, p - 1,
            CASE p_kind WHEN 'hold' THEN p - 1 END, CASE p_kind WHEN 'hold' THEN seq END, line_kind, amount,
            debit.credits_posted - debit.debits_posted, credit.credits_posted - credit.debits_posted)::ledger_lines;
        line_rows := line_rows || E'\n' || line_kind || E'\t' || debit.name || E'\t' || credit.name || E'\t' || amount
            || E'\t' || debit.credits_posted - debit.debits_posted
            || E'\t' || credit.credits_posted - credit.debits_posted
            || CASE p_kind WHEN 'hold' THEN E'\t' || seq || E'\t' || p - 1 ELSE E'\t\\N\t\\N' END;
    END LOOP;
    IF refusal IS NULL THEN
        FOR i IN 1 .. cardinality(held) LOOP
            debit := held[i];
            amount := debit.credits_posted - debit.debits_posted - debit.debits_pending + debit.credit_line;
            IF debit.limited AND debit.name = ANY(p_debits) AND amount < 0 AND amount < before[i] THEN
                refusal := 'insufficient_funds';
                detail := format('{"facts":{"account":"%s","available":%s,"required":%s}}',
                    debit.name, greatest(before[i], 0), before[i] - amount);
                EXIT;
            END IF;
        END LOOP;
    END IF;

    -- From here it must succeed.
    IF refusal IS NOT NULL THEN
        PERFORM bench_record(p_book, p_book_name, seq, booked, p_kind, p_id, p_key, p_subject, p_content, refusal,
            detail, '');
        RETURN;
    END IF;
    UPDATE ledger_accounts a
       SET debits_posted = h.debits_posted, credits_posted = h.credits_posted,
           debits_pending = h.debits_pending, credits_pending = h.credits_pending
      FROM unnest(held) AS h WHERE a.book = p_book AND a.account = h.account;
    PERFORM bench_record(p_book, p_book_name, seq, booked, p_kind, p_id, p_key, p_subject, p_content, NULL, NULL,
        line_rows);
    INSERT INTO ledger_lines SELECT * FROM unnest(lines);
    IF p_kind = 'hold' THEN
        INSERT INTO ledger_holds (book, hold, posting, debit, credit, amount, remaining, state)
        SELECT p_book, l.hold, l.hold_posting, l.debit, l.credit, l.amount, l.amount, 'open' FROM unnest(lines) AS l;
    END IF;
END $$;

-- Settle (`p_amount` of posting 0, all that remains if NULL) or void a hold, releasing the rest if `p_close`.
CREATE FUNCTION bench_end(
    p_book integer, p_book_name text, p_kind text, p_id text, p_key bytea, p_subject text, p_content bytea,
    p_hold_key bytea, p_amount text, p_close boolean, OUT seq bigint, OUT refusal text, OUT replayed boolean
) LANGUAGE plpgsql AS $$
DECLARE
    wanted bigint;
    posting ledger_holds;
    debit ledger_accounts;
    credit ledger_accounts;
    settled numeric;
    released numeric;
    line smallint := 0;
    line_rows text := '';
    lines ledger_lines[] := '{}';
    touched integer[] := '{}';
    is_open boolean := false;
    booked timestamptz;
BEGIN
    SELECT * INTO seq, refusal, replayed FROM bench_known(p_book, p_key, p_content);
    IF seq IS NOT NULL THEN
        RETURN;
    END IF;
    replayed := false;
    SELECT i.seq INTO wanted FROM ledger_ids i WHERE i.book = p_book AND i.key = p_hold_key;
    PERFORM 1 FROM ledger_holds h WHERE h.book = p_book AND h.hold = wanted ORDER BY h.posting FOR UPDATE;
    IF NOT FOUND THEN
        refusal := 'unknown_hold';
    ELSE
        PERFORM 1 FROM ledger_accounts a
          WHERE a.book = p_book AND a.account IN (
                SELECT unnest(ARRAY[h.debit, h.credit]) FROM ledger_holds h WHERE h.book = p_book AND h.hold = wanted)
          ORDER BY a.account FOR UPDATE;
    END IF;
    seq := nextval('bench_seq');
    booked := clock_timestamp();
    FOR posting IN SELECT * FROM ledger_holds h WHERE h.book = p_book AND h.hold = wanted ORDER BY h.posting LOOP
        settled := CASE WHEN p_kind = 'void' THEN 0 WHEN p_amount IS NULL THEN posting.remaining
                        WHEN posting.posting = 0 THEN p_amount::numeric ELSE 0 END;
        IF posting.state <> 'open' THEN
            refusal := 'hold_closed';
        ELSIF posting.expires_at <= booked THEN
            refusal := 'hold_expired';
        ELSIF settled > posting.remaining THEN
            refusal := 'exceeds_remainder';
        END IF;
        EXIT WHEN refusal IS NOT NULL;
        released := CASE WHEN p_close OR p_kind = 'void' THEN posting.remaining - settled ELSE 0 END;
        is_open := is_open OR posting.remaining - settled - released > 0;
        UPDATE ledger_accounts a SET debits_posted = a.debits_posted + settled,
               debits_pending = a.debits_pending - settled - released
         WHERE a.book = p_book AND a.account = posting.debit RETURNING * INTO debit;
        UPDATE ledger_accounts a SET credits_posted = a.credits_posted + settled,
               credits_pending = a.credits_pending - settled - released
         WHERE a.book = p_book AND a.account = posting.credit RETURNING * INTO credit;
        FOR step IN 1 .. 2 LOOP
            CONTINUE WHEN (CASE step WHEN 1 THEN settled ELSE released END) = 0;
            lines := lines || ROW(seq, p_book, debit.account, credit.account, line, posting.posting, wanted,
                CASE step WHEN 1 THEN 'posted' ELSE 'released' END, CASE step WHEN 1 THEN settled ELSE released END,
                debit.credits_posted - debit.debits_posted, credit.credits_posted - credit.debits_posted)::ledger_lines;
            line_rows := line_rows || E'\n' || CASE step WHEN 1 THEN 'posted' ELSE 'released' END
                || E'\t' || debit.name || E'\t' || credit.name
                || E'\t' || CASE step WHEN 1 THEN settled ELSE released END
                || E'\t' || debit.credits_posted - debit.debits_posted
                || E'\t' || credit.credits_posted - credit.debits_posted
                || E'\t' || wanted || E'\t' || posting.posting;
            line := line + 1;
        END LOOP;
        UPDATE ledger_holds h SET remaining = posting.remaining - settled - released
         WHERE h.book = p_book AND h.hold = wanted AND h.posting = posting.posting;
    END LOOP;
    IF refusal IS NULL AND NOT is_open THEN
        UPDATE ledger_holds h SET state = CASE p_kind WHEN 'void' THEN 'voided' ELSE 'settled' END
         WHERE h.book = p_book AND h.hold = wanted;
    END IF;
    PERFORM bench_record(p_book, p_book_name, seq, booked, p_kind, p_id, p_key, p_subject, p_content, refusal, NULL,
        line_rows);
    INSERT INTO ledger_lines SELECT * FROM unnest(lines);
END $$
