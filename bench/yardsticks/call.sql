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

-- An id that was decided before: its first refusal or the conflict, and whether the content is the same.
CREATE FUNCTION bench_first(
    p_book integer, p_seq bigint, p_content bytea, OUT refusal text, OUT replayed boolean
) LANGUAGE sql AS $$
    SELECT CASE WHEN content = p_content THEN refusal ELSE 'id_conflict' END, content = p_content
      FROM ledger_commands WHERE book = p_book AND seq = p_seq
$$;

CREATE FUNCTION bench_enter(
    p_book integer, p_book_name text, p_kind text, p_id text, p_key bytea, p_subject text, p_content bytea,
    p_debits text[], p_credits text[], p_amounts text[], OUT seq bigint, OUT refusal text, OUT replayed boolean
) LANGUAGE plpgsql AS $$
DECLARE
    is_hold constant boolean := p_kind = 'hold';
    line_kind constant text := CASE WHEN is_hold THEN 'held' ELSE 'posted' END;
    booked timestamptz;
    names text[];
    assets text[];
    limits boolean[];
    before numeric[];
    after numeric[];
    is_closed boolean;
    is_frozen boolean;
    d integer;
    c integer;
    amount numeric;
    debit integer;
    credit integer;
    debit_balance numeric;
    credit_balance numeric;
    detail text;
    line_rows text := '';
BEGIN
    SELECT i.seq INTO seq FROM ledger_ids i WHERE i.book = p_book AND i.key = p_key;
    IF FOUND THEN
        SELECT f.refusal, f.replayed INTO refusal, replayed FROM bench_first(p_book, seq, p_content) AS f;
        RETURN;
    END IF;
    replayed := false;
    SELECT array_agg(a.name), array_agg(a.asset), array_agg(a.limited),
           array_agg(a.credits_posted - a.debits_posted - a.debits_pending + a.credit_line), bool_or(a.closed),
           bool_or(a.frozen OR EXISTS (
               SELECT FROM ledger_freezes f WHERE f.book = p_book AND f.frozen
                  AND (f.scope = 'owner' AND f.target = a.owner OR f.scope = 'asset' AND f.target = a.asset)))
      INTO names, assets, limits, before, is_closed, is_frozen
      FROM (SELECT * FROM ledger_accounts
             WHERE book = p_book AND name = ANY(p_debits || p_credits) ORDER BY account FOR UPDATE) AS a;
    seq := nextval('bench_seq');
    booked := clock_timestamp();

    after := before;
    FOR p IN 1 .. cardinality(p_amounts) LOOP
        amount := p_amounts[p]::numeric;
        d := array_position(names, p_debits[p]);
        c := array_position(names, p_credits[p]);
        IF amount <= 0 THEN
            refusal := 'invalid_amount';
        ELSIF p_debits[p] = p_credits[p] THEN
            refusal := 'same_account';
        ELSIF d IS NULL OR c IS NULL THEN
            refusal := 'unknown_account';
        ELSIF assets[d] <> assets[c] THEN
            refusal := 'asset_mismatch';
        ELSIF is_closed THEN
            refusal := 'account_closed';
        ELSIF is_frozen THEN
            refusal := 'frozen';
        END IF;
        EXIT WHEN refusal IS NOT NULL;
        after[d] := after[d] - amount;
        IF NOT is_hold THEN
            after[c] := after[c] + amount;
        END IF;
    END LOOP;
    IF refusal IS NULL THEN
        FOR i IN 1 .. cardinality(names) LOOP
            IF limits[i] AND after[i] < 0 AND after[i] < before[i] THEN
                refusal := 'insufficient_funds';
                detail := format('{"facts":{"account":"%s","available":%s,"required":%s}}',
                    names[i], greatest(before[i], 0), before[i] - after[i]);
                EXIT;
            END IF;
        END LOOP;
    END IF;

    -- From here it must succeed.
    IF refusal IS NULL THEN
        FOR p IN 1 .. cardinality(p_amounts) LOOP
            amount := p_amounts[p]::numeric;
            IF is_hold THEN
                UPDATE ledger_accounts a SET debits_pending = a.debits_pending + amount
                 WHERE a.book = p_book AND a.name = p_debits[p]
             RETURNING a.account, a.credits_posted - a.debits_posted INTO debit, debit_balance;
                UPDATE ledger_accounts a SET credits_pending = a.credits_pending + amount
                 WHERE a.book = p_book AND a.name = p_credits[p]
             RETURNING a.account, a.credits_posted - a.debits_posted INTO credit, credit_balance;
                INSERT INTO ledger_holds (book, hold, posting, debit, credit, amount, remaining, state)
                VALUES (p_book, seq, p - 1, debit, credit, amount, amount, 'open');
            ELSE
                UPDATE ledger_accounts a SET debits_posted = a.debits_posted + amount
                 WHERE a.book = p_book AND a.name = p_debits[p]
             RETURNING a.account, a.credits_posted - a.debits_posted INTO debit, debit_balance;
                UPDATE ledger_accounts a SET credits_posted = a.credits_posted + amount
                 WHERE a.book = p_book AND a.name = p_credits[p]
             RETURNING a.account, a.credits_posted - a.debits_posted INTO credit, credit_balance;
            END IF;
            INSERT INTO ledger_lines (seq, book, debit, credit, line, hold_posting, hold, kind, amount, debit_balance,
                                      credit_balance)
            VALUES (seq, p_book, debit, credit, p - 1, CASE WHEN is_hold THEN p - 1 END,
                CASE WHEN is_hold THEN seq END, line_kind, amount, debit_balance, credit_balance);
            line_rows := line_rows || E'\n' || line_kind || E'\t' || p_debits[p] || E'\t' || p_credits[p]
                || E'\t' || p_amounts[p] || E'\t' || debit_balance || E'\t' || credit_balance
                || CASE WHEN is_hold THEN E'\t' || seq || E'\t' || p - 1 ELSE E'\t\\N\t\\N' END;
        END LOOP;
    END IF;
    PERFORM bench_record(p_book, p_book_name, seq, booked, p_kind, p_id, p_key, p_subject, p_content, refusal, detail,
        line_rows);
END $$;

-- Settle (`p_amount` of posting 0, all that remains if NULL) or void a hold, releasing the rest if `p_close`.
CREATE FUNCTION bench_end(
    p_book integer, p_book_name text, p_kind text, p_id text, p_key bytea, p_subject text, p_content bytea,
    p_hold_key bytea, p_amount text, p_close boolean, OUT seq bigint, OUT refusal text, OUT replayed boolean
) LANGUAGE plpgsql AS $$
DECLARE
    wanted bigint;
    posting record;
    debit text;
    credit text;
    debit_balance numeric;
    credit_balance numeric;
    settled numeric;
    released numeric;
    line smallint := 0;
    line_rows text := '';
    booked timestamptz;
BEGIN
    SELECT i.seq INTO seq FROM ledger_ids i WHERE i.book = p_book AND i.key = p_key;
    IF FOUND THEN
        SELECT f.refusal, f.replayed INTO refusal, replayed FROM bench_first(p_book, seq, p_content) AS f;
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
        UPDATE ledger_accounts a
           SET debits_posted = a.debits_posted + settled, debits_pending = a.debits_pending - settled - released
         WHERE a.book = p_book AND a.account = posting.debit
     RETURNING a.name, a.credits_posted - a.debits_posted INTO debit, debit_balance;
        UPDATE ledger_accounts a
           SET credits_posted = a.credits_posted + settled, credits_pending = a.credits_pending - settled - released
         WHERE a.book = p_book AND a.account = posting.credit
     RETURNING a.name, a.credits_posted - a.debits_posted INTO credit, credit_balance;
        IF settled > 0 THEN
            INSERT INTO ledger_lines (seq, book, debit, credit, line, hold_posting, hold, kind, amount, debit_balance,
                                      credit_balance)
            VALUES (seq, p_book, posting.debit, posting.credit, line, posting.posting, wanted,
                'posted', settled, debit_balance, credit_balance);
            line_rows := line_rows || E'\nposted\t' || debit || E'\t' || credit || E'\t' || settled
                || E'\t' || debit_balance || E'\t' || credit_balance || E'\t' || wanted || E'\t' || posting.posting;
            line := line + 1;
        END IF;
        IF released > 0 THEN
            INSERT INTO ledger_lines (seq, book, debit, credit, line, hold_posting, hold, kind, amount, debit_balance,
                                      credit_balance)
            VALUES (seq, p_book, posting.debit, posting.credit, line, posting.posting, wanted,
                'released', released, debit_balance, credit_balance);
            line_rows := line_rows || E'\nreleased\t' || debit || E'\t' || credit || E'\t' || released
                || E'\t' || debit_balance || E'\t' || credit_balance || E'\t' || wanted || E'\t' || posting.posting;
            line := line + 1;
        END IF;
        UPDATE ledger_holds h SET remaining = posting.remaining - settled - released,
               state = CASE WHEN posting.remaining > settled + released THEN 'open'
                            WHEN p_kind = 'void' THEN 'voided' ELSE 'settled' END
         WHERE h.book = p_book AND h.hold = wanted AND h.posting = posting.posting;
    END LOOP;
    PERFORM bench_record(p_book, p_book_name, seq, booked, p_kind, p_id, p_key, p_subject, p_content, refusal, NULL,
        line_rows);
END $$
