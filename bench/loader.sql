-- Repeats the last stretch of a book: the same commands again, later, under new ids, so that the book stays consistent.
--
-- Balances after each line go on from where the last repetition left them, holds and their ends move together, every leaf
-- is computed anew. It writes what `ledger_write` would have written, as the tables' owner: nothing here is for a book
-- that anybody uses.

-- A name of its own for the nth repetition, of the same length and form.
CREATE OR REPLACE FUNCTION bench_renamed(p_name text, p_nth integer) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_name LIKE 'req:%'
        THEN 'req:' || encode(sha256(convert_to(p_name || ':' || p_nth, 'UTF8')), 'hex')
        ELSE left(p_name, 4) || substr(md5(p_name || ':' || p_nth), 1, 26) END
$$;

-- What a stretch does to accounts.
CREATE TABLE IF NOT EXISTS bench_step (
    account integer PRIMARY KEY, debits_posted numeric, credits_posted numeric, debits_pending numeric,
    credits_pending numeric
);

-- Note what the stretch after p_first did.
CREATE OR REPLACE FUNCTION bench_steps(p_book integer, p_first bigint) RETURNS void LANGUAGE sql AS $$
    TRUNCATE bench_step;
    INSERT INTO bench_step
    SELECT side.account, sum(side.debits_posted) AS debits_posted, sum(side.credits_posted) AS credits_posted,
           sum(side.debits_pending) AS debits_pending, sum(side.credits_pending) AS credits_pending
      FROM ledger_lines l,
           LATERAL (SELECT CASE WHEN l.kind = 'posted' THEN l.amount ELSE 0 END AS posted,
                           CASE WHEN l.kind = 'held' THEN l.amount WHEN l.hold IS NULL THEN 0 ELSE -l.amount END AS held
                   ) AS step,
           LATERAL (VALUES (l.debit, step.posted, 0, step.held, 0), (l.credit, 0, step.posted, 0, step.held))
               AS side(account, debits_posted, credits_posted, debits_pending, credits_pending)
     WHERE l.book = p_book AND l.seq > p_first
     GROUP BY side.account
$$;

-- The nth repetition of the commands in (p_first, p_last], each booked p_nth * p_interval later.
CREATE OR REPLACE FUNCTION bench_repeat(p_book integer, p_first bigint, p_last bigint, p_nth integer, p_interval interval)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    on_seq constant bigint := (p_last - p_first) * p_nth;
    on_time constant interval := p_interval * p_nth;
    book_name constant text := (SELECT book FROM ledger_books WHERE number = p_book);
    written bigint;
BEGIN
    CREATE TEMP TABLE IF NOT EXISTS repeated (LIKE ledger_lines, row_text text);
    TRUNCATE repeated;
    INSERT INTO repeated (seq, book, line, kind, debit, credit, amount, debit_balance, credit_balance, hold, hold_posting)
    SELECT l.seq + on_seq, p_book, l.line, l.kind, l.debit, l.credit, l.amount,
           l.debit_balance + p_nth * (d.credits_posted - d.debits_posted),
           l.credit_balance + p_nth * (c.credits_posted - c.debits_posted), l.hold + on_seq, l.hold_posting
      FROM ledger_lines l JOIN bench_step d ON d.account = l.debit JOIN bench_step c ON c.account = l.credit
     WHERE l.book = p_book AND l.seq > p_first AND l.seq <= p_last
     ORDER BY l.seq, l.line;
    INSERT INTO ledger_lines (seq, book, line, kind, debit, credit, amount, debit_balance, credit_balance, hold,
                              hold_posting)
    SELECT seq, book, line, kind, debit, credit, amount, debit_balance, credit_balance, hold, hold_posting FROM repeated;
    WITH named AS (
        SELECT c.*, c.seq + on_seq AS new_seq, c.booked_at + on_time AS new_booked_at,
               c.effective_at + on_time AS new_effective_at, bench_renamed(c.subject, p_nth) AS new_subject,
               CASE WHEN c.id LIKE 'req:%' THEN bench_renamed(c.id, p_nth)
                    WHEN c.subject IS NULL THEN c.id || ':' || p_nth
                    ELSE replace(c.id, c.subject, bench_renamed(c.subject, p_nth)) END AS new_id
          FROM ledger_commands c WHERE c.book = p_book AND c.seq > p_first AND c.seq <= p_last
    ), texts AS (
        SELECT r.seq, string_agg(concat(
                   E'\n', r.kind, E'\t', d.name, E'\t', c.name, E'\t', r.amount, E'\t', r.debit_balance,
                   E'\t', r.credit_balance, E'\t', coalesce(r.hold::text, '\N'),
                   E'\t', coalesce(r.hold_posting::text, '\N')), '' ORDER BY r.line) AS line_rows
          FROM repeated r JOIN ledger_accounts d ON d.book = p_book AND d.account = r.debit
          JOIN ledger_accounts c ON c.book = p_book AND c.account = r.credit
         GROUP BY r.seq
    ), ids AS (
        INSERT INTO ledger_ids (book, key, seq)
        SELECT p_book, substr(sha256(convert_to(new_id, 'UTF8')), 1, 16), new_seq FROM named
    )
    INSERT INTO ledger_commands (seq, booked_at, effective_at, book, kind, id, subject, content, refusal, detail, leaf)
    SELECT n.new_seq, n.new_booked_at, n.new_effective_at, p_book, n.kind, n.new_id, n.new_subject, n.content, n.refusal,
           n.detail, sha256('\x00'::bytea || convert_to(concat(
               book_name, E'\t', n.new_seq, E'\t', n.new_id, E'\t', n.kind, E'\t', coalesce(n.new_subject, '\N'),
               E'\t', encode(n.content, 'hex'), E'\t', coalesce(n.refusal, '\N'), E'\t', coalesce(n.detail, '\N'),
               E'\t', n.new_booked_at, E'\t', coalesce(n.new_effective_at::text, '\N'), E'\t\\N', t.line_rows), 'UTF8'))
      FROM named n LEFT JOIN texts t ON t.seq = n.new_seq
     ORDER BY n.new_seq;
    GET DIAGNOSTICS written = ROW_COUNT;
    INSERT INTO ledger_holds (hold, expires_at, book, debit, credit, posting, state, amount, remaining, charges)
    SELECT hold + on_seq, expires_at + on_time, book, debit, credit, posting, state, amount, remaining, charges
      FROM ledger_holds WHERE book = p_book AND hold > p_first AND hold <= p_last;
    INSERT INTO ledger_backdated (seq, effective_at, book, account, line, step)
    SELECT seq + on_seq, effective_at + on_time, book, account, line, step
      FROM ledger_backdated WHERE book = p_book AND seq > p_first AND seq <= p_last;
    RETURN written;
END $$;

-- The accounts and the book as they are after p_times repetitions.
CREATE OR REPLACE FUNCTION bench_repeated(p_book integer, p_first bigint, p_last bigint, p_times integer, p_interval interval)
RETURNS void LANGUAGE sql AS $$
    UPDATE ledger_accounts a
       SET debits_posted = a.debits_posted + p_times * s.debits_posted,
           credits_posted = a.credits_posted + p_times * s.credits_posted,
           debits_pending = a.debits_pending + p_times * s.debits_pending,
           credits_pending = a.credits_pending + p_times * s.credits_pending
      FROM bench_step s WHERE a.book = p_book AND a.account = s.account;
    UPDATE ledger_books SET seq = p_last + (p_last - p_first) * p_times, booked_at = booked_at + p_interval * p_times
     WHERE number = p_book;
$$
