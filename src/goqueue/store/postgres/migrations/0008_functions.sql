-- Stored functions, for those who enqueue or complete inside a transaction of their own and have no GoQueue at hand: SQL,
-- triggers, other languages, other drivers. They run with the rights of whoever calls them. Their names end in a version:
-- what a function takes and answers never changes, what is new gets a new name.
--
-- For callers: enqueue_v1, enqueue_many_v1, complete_v1. All others are their parts. Settings of the session that change how
-- names, texts and numbers are read do not reach them.
-- Errors: GQ001 a job or result that cannot be stored (DETAIL: a JSON pointer to the field), GQ002 the lease is lost,
-- GQ003 the unique key is busy, GQ004 the history has no partition for the day.

-- What became of one job: its id (of the holder, if its unique key is held); inserted, exists (a job with this id is there),
-- duplicate, replaced or rejected (the key is held); and if it is new when it was stored, and when it is due.
CREATE TYPE goqueue.enqueued_v1 AS (id uuid, status text, created_at timestamptz, run_at timestamptz);

-- Refuses a value. `pointer` names it, `problem` says what it must be.
CREATE FUNCTION goqueue.refuse_v1(pointer text, problem text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'GQ001', MESSAGE = ltrim(pointer || ': ' || problem, ': '), DETAIL = pointer,
        HINT = 'Nothing was stored. Mend the value and call again.';
END
$$;

-- Checks a text: `least_chars` to `most_chars` characters, and if it is a name printable, without white space at its ends.
-- The classes of characters are those of Unicode 14 (C and Z but the space); what is assigned later passes.
CREATE FUNCTION goqueue.check_text_v1(value json, pointer text, least_chars integer, most_chars integer, is_name boolean)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    given text := value #>> '{}';
BEGIN
    IF json_typeof(value) <> 'string' THEN
        PERFORM goqueue.refuse_v1(pointer, 'must be text');
    ELSIF char_length(given) > most_chars THEN
        PERFORM goqueue.refuse_v1(pointer, format('must have at most %s characters, has %s', most_chars, char_length(given)));
    ELSIF char_length(given) < least_chars THEN
        PERFORM goqueue.refuse_v1(pointer, 'must not be empty');
    ELSIF is_name AND given !~ '^[!-~]+$' AND (given <> btrim(given) OR given ~ (
        '[\u0001-\u001F\u007F-\u00A0\u00AD\u0600-\u0605\u061C\u06DD\u070F\u0890\u0891\u08E2\u1680\u180E\u2000-\u200F'
        '\u2028-\u202F\u205F-\u2064\u2066-\u206F\u3000\uE000-\uF8FF\uFEFF\uFFF9-\uFFFB\U000110BD\U000110CD'
        '\U00013430-\U00013438\U0001BCA0-\U0001BCA3\U0001D173-\U0001D17A\U000E0001\U000E0020-\U000E007F'
        '\U000F0000-\U000FFFFD\U00100000-\U0010FFFD]'))
    THEN
        PERFORM goqueue.refuse_v1(pointer, 'must be printable, without white space at its ends');
    END IF;
END
$$;

-- Checks a number: from `low` to `high`, and if `is_whole` written without fraction and exponent.
CREATE FUNCTION goqueue.check_number_v1(value json, pointer text, low numeric, high numeric, is_whole boolean)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF json_typeof(value) <> 'number' OR char_length(value::text) > 400 OR value::text ~ '[eE][-+]?0*[1-9][0-9]{2}'
        OR is_whole AND value::text !~ '^\s*-?[0-9]+\s*$'
    THEN
        PERFORM goqueue.refuse_v1(
            pointer, format('must be a %s from %s to %s', CASE WHEN is_whole THEN 'whole number' ELSE 'number' END, low, high));
    ELSIF value::text::numeric NOT BETWEEN low AND high THEN
        PERFORM goqueue.refuse_v1(
            pointer, format('must be a %s from %s to %s', CASE WHEN is_whole THEN 'whole number' ELSE 'number' END, low, high));
    END IF;
END
$$;

-- Checks that JSON can be stored faithfully: not too large or deep.
CREATE FUNCTION goqueue.check_json_v1(value json, pointer text, bytes_max integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    raw text := value::text;
    brackets text;
BEGIN
    IF octet_length(raw) > bytes_max THEN
        PERFORM goqueue.refuse_v1(pointer, format('must have at most %s bytes as JSON, has %s', bytes_max, octet_length(raw)));
    END IF;
    -- An upper bound first: few documents have many opening brackets, and only those are looked at closely.
    IF char_length(raw) - char_length(replace(replace(raw, '[', ''), '{', '')) > 64 THEN
        brackets := translate(regexp_replace(regexp_replace(raw, '"([^"\\]|\\.)*"', '', 'g'), '[^][{}]+', '', 'g'), '{}', '[]');
        FOR depth IN 1..64 LOOP
            brackets := replace(brackets, '[]', '');  -- one level, from the inside
            EXIT WHEN brackets = '';
        END LOOP;
        IF brackets <> '' THEN
            PERFORM goqueue.refuse_v1(pointer, 'must be nested at most 64 deep');
        END IF;
    END IF;
END
$$;

-- Checks that no text in some JSON has what a store cannot keep as text. Before any of it is looked at: reading such a text
-- is an error of its own.
CREATE FUNCTION goqueue.check_escapes_v1(value json, pointer text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    raw text := value::text;
BEGIN
    IF position('\u' IN raw) > 0 THEN
        raw := replace(raw, '\\', '');  -- of backslashes that stand for themselves nothing begins
        IF position('\u0000' IN raw) > 0 THEN
            PERFORM goqueue.refuse_v1(pointer, 'must not contain NUL (U+0000)');
        ELSIF regexp_replace(raw, '\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}', '', 'g') ~ '\\u[dD][89a-fA-F]'
        THEN
            PERFORM goqueue.refuse_v1(pointer, 'must not contain lone surrogates');
        END IF;
    END IF;
END
$$;

-- Checks the retry delays that a job brings along.
CREATE FUNCTION goqueue.check_retry_v1(value json, pointer text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    field record;
    item json;
BEGIN
    IF json_typeof(value) <> 'object' THEN
        PERFORM goqueue.refuse_v1(pointer, 'must be a JSON object');
    END IF;
    FOR field IN SELECT f.key, f.value, pointer || '/' || f.key AS at FROM json_each(value) AS f LOOP
        CASE field.key
            WHEN 'base_s', 'cap_s' THEN
                PERFORM goqueue.check_number_v1(field.value, field.at, 0, 316224000, false);
            WHEN 'factor' THEN
                PERFORM goqueue.check_number_v1(field.value, field.at, 1, 100, false);
            WHEN 'retry_for_s' THEN
                IF json_typeof(field.value) <> 'null' THEN
                    PERFORM goqueue.check_number_v1(field.value, field.at, 0, 316224000, false);
                END IF;
            WHEN 'jitter' THEN
                IF json_typeof(field.value) <> 'string' OR field.value #>> '{}' NOT IN ('full', 'equal', 'none') THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must be full, equal or none');
                END IF;
            WHEN 'delays_s' THEN
                IF json_typeof(field.value) <> 'array' OR json_array_length(field.value) > 100 THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must be a list of at most 100');
                END IF;
                FOR item IN SELECT d.value FROM json_array_elements(field.value) AS d LOOP
                    PERFORM goqueue.check_number_v1(item, field.at, 0, 316224000, false);
                END LOOP;
            ELSE
                PERFORM goqueue.refuse_v1(field.at, 'is not a field of retry');
        END CASE;
    END LOOP;
END
$$;

-- Checks what a job asks for as to its unique key: true (by kind and arguments), a key, or an object.
CREATE FUNCTION goqueue.check_unique_v1(value json, pointer text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    field record;
    final_states integer := 0;
BEGIN
    IF json_typeof(value) = 'boolean' THEN
        RETURN;
    ELSIF json_typeof(value) = 'string' THEN
        PERFORM goqueue.check_text_v1(value, pointer, 1, 1024, false);
        RETURN;
    ELSIF json_typeof(value) <> 'object' THEN
        PERFORM goqueue.refuse_v1(pointer, 'must be true, a key, or a JSON object');
    END IF;
    FOR field IN
        SELECT f.key, f.value, f.value #>> '{}' AS given, json_typeof(f.value) AS type, pointer || '/' || f.key AS at
        FROM json_each(value) AS f
    LOOP
        CONTINUE WHEN field.type = 'null';
        CASE field.key
            WHEN 'key' THEN
                PERFORM goqueue.check_text_v1(field.value, field.at, 1, 1024, false);
            WHEN 'on_conflict' THEN
                IF field.given NOT IN ('return', 'reject', 'replace') THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must be return, reject or replace');
                END IF;
            WHEN 'final_states' THEN
                IF field.type <> 'array' THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must be a list');
                END IF;
                final_states := json_array_length(field.value);
                IF EXISTS (
                    SELECT FROM json_array_elements_text(field.value) AS s
                    WHERE coalesce(s.value, '') NOT IN ('completed', 'cancelled', 'dead'))
                THEN
                    PERFORM goqueue.refuse_v1(
                        field.at, 'may only add completed, cancelled or dead: the other states always hold');
                END IF;
            WHEN 'window_s' THEN
                PERFORM goqueue.check_number_v1(field.value, field.at, 0, 316224000, false);
            WHEN 'until_started', 'keep_run_at' THEN
                IF field.type <> 'boolean' THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must be true or false');
                END IF;
            WHEN 'digest' THEN  -- of clients that have a canonical form of their own: 32 bytes in hexadecimal
                IF field.given !~ '^[0-9a-f]{64}$' THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must be 64 hexadecimal digits');
                END IF;
            ELSE
                PERFORM goqueue.refuse_v1(field.at, 'is not a field of unique');
        END CASE;
    END LOOP;
    IF coalesce((value ->> 'until_started')::boolean, false) AND final_states > 0 THEN
        PERFORM goqueue.refuse_v1(
            pointer || '/until_started', 'goes with no final_states: the key is free once the job has started');
    ELSIF coalesce((value ->> 'keep_run_at')::boolean, false) AND value ->> 'on_conflict' IS DISTINCT FROM 'replace' THEN
        PERFORM goqueue.refuse_v1(
            pointer || '/keep_run_at', 'needs on_conflict replace: nothing else would change run_at');
    ELSIF value ->> 'window_s' IS NOT NULL AND final_states = 0 THEN
        PERFORM goqueue.refuse_v1(
            pointer || '/window_s', 'needs final_states: it is how long a final state holds the key');
    END IF;
END
$$;

-- Checks an instant: of the calendar, from 2000 to 2200.
CREATE FUNCTION goqueue.check_instant_v1(given text, pointer text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz;
BEGIN
    BEGIN
        at := given::timestamptz;
    EXCEPTION WHEN data_exception THEN
        PERFORM goqueue.refuse_v1(pointer, 'must be a day and a time of the calendar, such as 2030-01-31T12:00:00Z');
    END;
    IF at NOT BETWEEN '2000-01-01 00:00:00+00'::timestamptz AND '2200-01-01 00:00:00+00'::timestamptz THEN
        PERFORM goqueue.refuse_v1(pointer, 'must be between 2000 and 2200');
    END IF;
END
$$;

-- Checks one job, field by field, as every client does before it sends one. A field that is null is one that is not there.
CREATE FUNCTION goqueue.check_job_v1(job json, pointer text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    field record;
    item record;
BEGIN
    IF json_typeof(job) <> 'object' THEN
        PERFORM goqueue.refuse_v1(pointer, 'must be a JSON object');
    END IF;
    IF job ->> 'kind' IS NULL THEN
        PERFORM goqueue.refuse_v1(pointer || '/kind', 'is required');
    END IF;
    FOR field IN
        SELECT f.key, f.value, json_typeof(f.value) AS type,
            pointer || '/' || replace(replace(f.key, '~', '~0'), '/', '~1') AS at
        FROM json_each(job) AS f
    LOOP
        CONTINUE WHEN field.type = 'null';
        CASE field.key
            WHEN 'kind' THEN
                PERFORM goqueue.check_text_v1(field.value, field.at, 1, 256, true);
            WHEN 'args' THEN
                PERFORM goqueue.check_json_v1(field.value, field.at, 1048576);
                IF field.type <> 'object' THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must be a JSON object');
                END IF;
            WHEN 'queue', 'tenant' THEN
                PERFORM goqueue.check_text_v1(field.value, field.at, 1, 128, true);
            WHEN 'priority' THEN
                PERFORM goqueue.check_number_v1(field.value, field.at, 0, 9, true);
            WHEN 'id' THEN
                IF field.value #>> '{}' !~* '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must be a UUID of version 7 in its hyphenated form');
                END IF;
            WHEN 'delay_s' THEN
                PERFORM goqueue.check_number_v1(field.value, field.at, 0, 316224000, false);
            WHEN 'run_at' THEN
                IF job ->> 'delay_s' IS NOT NULL THEN
                    PERFORM goqueue.refuse_v1(field.at, 'give run_at or delay_s, not both');
                ELSIF field.value #>> '{}'
                    !~* '^\d{4}-\d\d-\d\d[t ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(z|[+-]\d\d(:?\d\d)?(:\d\d)?)$'
                THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must be an instant with its time zone, such as 2030-01-31T12:00:00Z');
                END IF;
                PERFORM goqueue.check_instant_v1(field.value #>> '{}', field.at);
            WHEN 'max_attempts' THEN
                PERFORM goqueue.check_number_v1(field.value, field.at, 1, 100000, true);
            WHEN 'max_crashes' THEN
                PERFORM goqueue.check_number_v1(field.value, field.at, 1, 1000, true);
            WHEN 'timeout_s' THEN
                PERFORM goqueue.check_number_v1(field.value, field.at, 0.001, 2592000, false);
            WHEN 'schedule_to_start_s', 'deadline_s' THEN
                PERFORM goqueue.check_number_v1(field.value, field.at, 0.001, 316224000, false);
            WHEN 'retry' THEN
                PERFORM goqueue.check_retry_v1(field.value, field.at);
            WHEN 'unique' THEN
                PERFORM goqueue.check_unique_v1(field.value, field.at);
            WHEN 'group_key' THEN
                PERFORM goqueue.check_text_v1(field.value, field.at, 0, 256, false);
            WHEN 'tags' THEN
                IF field.type <> 'array' OR json_array_length(field.value) > 16 THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must be a list of at most 16 tags');
                END IF;
                FOR item IN SELECT t.value, t.nth FROM json_array_elements(field.value) WITH ORDINALITY AS t(value, nth) LOOP
                    PERFORM goqueue.check_text_v1(item.value, field.at || '/' || item.nth - 1, 1, 128, true);
                END LOOP;
            WHEN 'meta' THEN
                IF field.type <> 'object' THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must be a JSON object of texts');
                ELSIF (SELECT count(DISTINCT k) FROM json_object_keys(field.value) AS k) > 32 THEN
                    PERFORM goqueue.refuse_v1(field.at, 'must have at most 32 keys');
                END IF;
                FOR item IN
                    SELECT m.key, m.value, field.at || '/' || replace(replace(m.key, '~', '~0'), '/', '~1') AS at
                    FROM json_each(field.value) AS m
                LOOP
                    PERFORM goqueue.check_text_v1(to_json(item.key), item.at, 0, 128, false);
                    PERFORM goqueue.check_text_v1(item.value, item.at, 0, 4096, false);
                END LOOP;
            ELSE
                PERFORM goqueue.refuse_v1(field.at, 'is not a field of a job');
        END CASE;
    END LOOP;
    IF (job ->> 'delay_s')::numeric >= (job ->> 'deadline_s')::numeric THEN
        PERFORM goqueue.refuse_v1(
            pointer || '/deadline_s', format('must be longer than the delay of %s s before it starts', job ->> 'delay_s'));
    END IF;
END
$$;

-- Makes a UUIDv7 of an instant: milliseconds, the rest of a millisecond in 12 bits (RFC 9562, method 3), and chance.
CREATE FUNCTION goqueue.new_id_v1(at timestamptz DEFAULT clock_timestamp()) RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(
        substring(int8send(us / 1000) FROM 3)
        || substring(int4send((28672 + (us % 1000) * 4096 / 1000)::integer) FROM 3)
        || set_byte(substring(uuid_send(gen_random_uuid()) FROM 9), 0, 128 + get_byte(uuid_send(gen_random_uuid()), 0) % 64),
        'hex')::uuid
    FROM (SELECT floor(extract(epoch FROM at) * 1000000)::bigint AS us) AS t
$$;

-- Returns JSON with sorted keys and without white space: equal values give equal texts, the same as in GoQueue's clients.
-- A number with a fraction or an exponent is refused: how it is written differs from language to language.
CREATE FUNCTION goqueue.canonical_v1(value json, pointer text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    CASE json_typeof(value)
        WHEN 'object' THEN
            RETURN '{' || coalesce((
                SELECT string_agg(to_json(m.key)::text || ':' || goqueue.canonical_v1(m.value, pointer), ',' ORDER BY m.key COLLATE "C")
                FROM (
                    SELECT DISTINCT ON (e.key) e.key, e.value  -- of one that is there twice the last counts
                    FROM json_each(value) WITH ORDINALITY AS e(key, value, nth) ORDER BY e.key, e.nth DESC) AS m), '') || '}';
        WHEN 'array' THEN
            RETURN '[' || coalesce((
                SELECT string_agg(goqueue.canonical_v1(e.value, pointer), ',' ORDER BY e.nth)
                FROM json_array_elements(value) WITH ORDINALITY AS e(value, nth)), '') || ']';
        WHEN 'string' THEN
            RETURN to_json(value #>> '{}')::text;
        WHEN 'number' THEN
            IF value::text ~ '[.eE]' THEN
                PERFORM goqueue.refuse_v1(
                    pointer, 'needs a key of its own: by arguments with fractions no two languages agree on one');
            END IF;
            RETURN CASE btrim(value::text) WHEN '-0' THEN '0' ELSE btrim(value::text) END;
        ELSE
            RETURN btrim(value::text);
    END CASE;
END
$$;

-- Returns the 32 bytes of a job's unique key, null if it has none. `wanted` is an object here.
CREATE FUNCTION goqueue.key_digest_v1(kind text, args json, wanted json, pointer text) RETURNS bytea LANGUAGE plpgsql AS $$
BEGIN
    IF wanted ->> 'digest' IS NOT NULL THEN
        RETURN decode(wanted ->> 'digest', 'hex');
    ELSIF wanted ->> 'key' IS NOT NULL THEN
        RETURN sha256('key\000'::bytea || convert_to(wanted ->> 'key', 'UTF8'));
    ELSIF wanted IS NOT NULL THEN
        RETURN sha256(
            'args\000'::bytea || convert_to(kind, 'UTF8') || '\000'::bytea
            || convert_to(goqueue.canonical_v1(args, pointer), 'UTF8'));
    END IF;
    RETURN NULL;
END
$$;

-- Tells whether an id is history. A UUIDv7 begins with its instant, and a job cannot expire before it was made: a day is taken
-- off for clocks that are ahead, and an id that claims to be from the future counts as made today.
CREATE FUNCTION goqueue.is_history_v1(id uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    made timestamptz := to_timestamp(('x' || translate(left(is_history_v1.id::text, 13), '-', ''))::bit(48)::bigint / 1000.0);
    first_day date := (least(made, clock_timestamp()) AT TIME ZONE 'UTC')::date - 1;
BEGIN
    RETURN EXISTS (SELECT FROM goqueue.job_history AS h WHERE h.id = is_history_v1.id AND h.expires_on >= first_day);
END
$$;

-- Gives a holder that has not started the arguments, options and run_at of a newer job (on_conflict = replace); false if it
-- does not wait with its key any more. One that somebody else renews just now is tried again for a tenth of a second.
CREATE FUNCTION goqueue.renew_holder_v1(holder uuid, new goqueue.job, start_at timestamptz, keeps_run_at boolean)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    FOR look IN 0..10 LOOP
        WITH held AS MATERIALIZED (
            SELECT j.ctid AS tid, CASE WHEN keeps_run_at THEN j.run_at ELSE start_at END AS run_at
            FROM goqueue.job AS j
            WHERE j.id = holder AND j.key = new.key AND j.state + 0 IN (0, 2)
              AND (j.flags & 128 = 0 OR j.fence = 0 OR EXISTS (
                  SELECT FROM goqueue.job_key AS k
                  WHERE k.tenant = j.tenant AND k.queue = j.queue AND k.key = j.key AND k.job_id = j.id))
            FOR UPDATE OF j SKIP LOCKED
        )
        UPDATE goqueue.job AS j
        SET run_at = held.run_at, priority = new.priority, kind = new.kind, args = new.args,
            max_attempts = greatest(new.max_attempts, j.attempt + 1), max_crashes = new.max_crashes, timeout_s = new.timeout_s,
            reason = NULL, tags = new.tags, meta = new.meta, group_key = new.group_key, retry = new.retry,
            schedule_to_start_s = new.schedule_to_start_s, deadline_at = new.deadline_at,
            expire_at = least(new.deadline_at, held.run_at + make_interval(secs => new.schedule_to_start_s)),
            flags = (j.flags & ~64) | (new.flags & 64)
        FROM held
        WHERE j.ctid = held.tid;
        IF FOUND THEN
            RETURN true;
        END IF;
        EXIT WHEN look = 10 OR NOT EXISTS (
            SELECT FROM goqueue.job AS j
            JOIN goqueue.job_key AS k ON k.tenant = j.tenant AND k.queue = j.queue AND k.key = j.key AND k.job_id = j.id
            WHERE j.id = holder AND j.key = new.key AND j.state + 0 IN (0, 2));
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END
$$;

-- Inserts a job; false if its id is there.
CREATE FUNCTION goqueue.insert_job_v1(new goqueue.job) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO goqueue.job (
        id, created_at, run_at, tenant, queue, group_key, priority, kind, args, max_attempts, max_crashes, timeout_s, tags, meta,
        flags, key, unique_key, key_window_s, retry, schedule_to_start_s, deadline_at, expire_at)
    VALUES (
        new.id, new.created_at, new.run_at, new.tenant, new.queue, new.group_key, new.priority, new.kind, new.args,
        new.max_attempts, new.max_crashes, new.timeout_s, new.tags, new.meta, new.flags, new.key, new.unique_key,
        new.key_window_s, new.retry, new.schedule_to_start_s, new.deadline_at, new.expire_at)
    ON CONFLICT (id) DO NOTHING;
    RETURN FOUND;
END
$$;

-- Stores one job that has a unique key, or says who holds that. The key is taken in the statement that looks for a holder: it
-- waits for an open transaction that inserts the same one, and takes it if that one rolls back.
CREATE FUNCTION goqueue.store_keyed_v1(
    new goqueue.job, on_conflict text, keeps_run_at boolean, at timestamptz, OUT answer text, OUT holder uuid)
LANGUAGE plpgsql AS $$
DECLARE
    lapsed boolean;
    tried_again boolean := false;
BEGIN
    FOR round IN 1..50 LOOP
        holder := new.id;
        answer := 'exists';  -- the id comes before the key: who sends the same job again meets it
        IF EXISTS (SELECT FROM goqueue.job AS j WHERE j.id = new.id) THEN
            RETURN;
        END IF;
        INSERT INTO goqueue.job_key (tenant, queue, key, job_id) VALUES (new.tenant, new.queue, new.key, new.id)
        ON CONFLICT (tenant, queue, key) DO NOTHING;
        IF FOUND THEN
            IF goqueue.insert_job_v1(new) THEN
                answer := 'inserted';
            ELSE
                DELETE FROM goqueue.job_key AS k
                WHERE k.tenant = new.tenant AND k.queue = new.queue AND k.key = new.key AND k.job_id = new.id;
            END IF;
            RETURN;
        END IF;
        SELECT k.job_id, coalesce(k.until <= at, false) INTO holder, lapsed
        FROM goqueue.job_key AS k
        WHERE k.tenant = new.tenant AND k.queue = new.queue AND k.key = new.key;
        CONTINUE WHEN NOT FOUND;
        IF EXISTS (SELECT FROM goqueue.job AS j WHERE j.id = new.id) THEN
            CONTINUE;  -- it has come meanwhile
        ELSIF lapsed THEN
            DELETE FROM goqueue.job_key AS k
            WHERE k.tenant = new.tenant AND k.queue = new.queue AND k.key = new.key AND k.until <= at;
        ELSIF holder = new.id THEN
            RETURN;  -- it has run, and its key is all that is left of it
        ELSIF on_conflict = 'reject' THEN
            answer := 'rejected';
            RETURN;
        ELSIF on_conflict = 'return' THEN
            answer := 'duplicate';
            RETURN;
        ELSIF goqueue.renew_holder_v1(holder, new, new.run_at, keeps_run_at) THEN
            answer := 'replaced';
            RETURN;
        ELSIF new.flags & 128 = 0 OR tried_again THEN
            answer := 'duplicate';
            RETURN;
        ELSE
            tried_again := true;  -- the holder may just have freed its key by being started
        END IF;
    END LOOP;
    RAISE EXCEPTION USING
        ERRCODE = 'GQ003', MESSAGE = 'the unique key changed hands again and again meanwhile', HINT = 'Try again.';
END
$$;

-- Stores checked jobs. Those with keys take them in the order of the keys, so that two that store the same ones wait for each
-- other and never deadlock; ids that came before in the list come last, and meet the first. `nth` is the place in the list.
CREATE FUNCTION goqueue.store_jobs_v1(jobs json, is_list boolean, is_retry boolean, at timestamptz)
RETURNS TABLE (nth bigint, job_id uuid, answer text, created timestamptz, due timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    item record;
    new goqueue.job;
BEGIN
    FOR item IN
        SELECT d.*
        FROM (
            SELECT
                n.*, n.id IS NOT NULL AND row_number() OVER (PARTITION BY n.id ORDER BY n.place) > 1 AS again,
                coalesce(n.tenant, 'default') AS its_tenant, coalesce(n.queue, 'default') AS its_queue,
                CASE
                    WHEN n."unique"::text = 'false' THEN NULL
                    WHEN json_typeof(n."unique") = 'boolean' THEN '{}'
                    WHEN json_typeof(n."unique") = 'string' THEN json_build_object('key', n."unique")
                    ELSE n."unique"
                END AS wanted
            FROM ROWS FROM (json_to_recordset(jobs) AS (
                id uuid, kind text, args json, queue text, tenant text, group_key text, priority smallint, run_at timestamptz,
                delay_s double precision, max_attempts integer, max_crashes integer, timeout_s double precision,
                schedule_to_start_s double precision, deadline_s double precision, retry json, "unique" json, tags text[],
                meta json
            )) WITH ORDINALITY AS n(
                id, kind, args, queue, tenant, group_key, priority, run_at, delay_s, max_attempts, max_crashes, timeout_s,
                schedule_to_start_s, deadline_s, retry, "unique", tags, meta, place)
        ) AS j
        CROSS JOIN LATERAL (
            SELECT j.*, goqueue.key_digest_v1(
                j.kind, coalesce(j.args, '{}'), j.wanted, CASE WHEN is_list THEN '/' || j.place - 1 ELSE '' END || '/unique')
                AS digest
        ) AS d
        ORDER BY d.again, d.digest IS NOT NULL, d.its_tenant COLLATE "C", d.its_queue COLLATE "C", d.digest, d.place
    LOOP
        new := NULL;
        new.id := coalesce(item.id, goqueue.new_id_v1(at + make_interval(secs => item.place / 1e6)));
        new.created_at := at;
        new.run_at := greatest(at, coalesce(item.run_at, at + make_interval(secs => item.delay_s)));
        new.tenant := item.its_tenant;
        new.queue := item.its_queue;
        new.group_key := coalesce(item.group_key, '');
        new.kind := item.kind;
        new.args := coalesce(item.args, '{}');
        new.priority := coalesce(item.priority, 5);
        new.max_attempts := coalesce(item.max_attempts, 20);
        new.max_crashes := coalesce(item.max_crashes, 3);
        new.timeout_s := item.timeout_s;
        new.schedule_to_start_s := item.schedule_to_start_s;
        new.deadline_at := at + make_interval(secs => item.deadline_s);
        new.expire_at := least(new.deadline_at, new.run_at + make_interval(secs => item.schedule_to_start_s));
        new.retry := item.retry;
        new.tags := nullif(item.tags, '{}');
        new.meta := CASE WHEN item.meta::text <> '{}' THEN item.meta END;
        new.flags := CASE WHEN coalesce(new.retry::text, new.expire_at::text) IS NOT NULL THEN 64 ELSE 0 END;
        nth := item.place;
        job_id := new.id;
        answer := 'exists';
        IF is_retry AND goqueue.is_history_v1(new.id) THEN
            NULL;
        ELSIF item.digest IS NULL THEN
            IF goqueue.insert_job_v1(new) THEN
                answer := 'inserted';
            END IF;
        ELSE
            new.key := item.digest;
            new.unique_key := coalesce(item.wanted ->> 'key', encode(item.digest, 'hex'));
            new.key_window_s := (item.wanted ->> 'window_s')::double precision;
            new.flags := new.flags | 1
                | CASE WHEN (item.wanted ->> 'until_started')::boolean THEN 128 ELSE 0 END
                | coalesce((
                    SELECT sum(DISTINCT CASE s.value WHEN 'completed' THEN 8 WHEN 'cancelled' THEN 16 ELSE 32 END)
                    FROM json_array_elements_text(
                        CASE WHEN json_typeof(item.wanted -> 'final_states') = 'array' THEN item.wanted -> 'final_states'
                        ELSE '[]' END) AS s), 0)::integer;
            SELECT k.answer, k.holder INTO answer, job_id
            FROM goqueue.store_keyed_v1(
                new, coalesce(item.wanted ->> 'on_conflict', 'return'),
                coalesce((item.wanted ->> 'keep_run_at')::boolean, false), at) AS k;
        END IF;
        IF is_retry AND answer = 'inserted' AND goqueue.is_history_v1(new.id) THEN
            -- An earlier try's job has ended since we looked: take ours back.
            DELETE FROM goqueue.job AS j WHERE j.id = new.id;
            DELETE FROM goqueue.job_key AS k
            WHERE k.tenant = new.tenant AND k.queue = new.queue AND k.key = new.key AND k.job_id = new.id;
            answer := 'exists';
        END IF;
        created := CASE WHEN answer = 'inserted' THEN at END;
        due := CASE WHEN answer = 'inserted' THEN new.run_at END;
        RETURN NEXT;
    END LOOP;
    -- Wake each queue for which a worker has said that it is idle. Delivered with the commit, if there is one.
    PERFORM pg_notify('goqueue', q.tenant || '/' || q.queue)
    FROM (
        SELECT DISTINCT coalesce(n.value ->> 'tenant', 'default') AS tenant, coalesce(n.value ->> 'queue', 'default') AS queue
        FROM json_array_elements(jobs) AS n) AS q
    WHERE EXISTS (
        SELECT FROM goqueue.worker AS w
        WHERE w.tenant = q.tenant AND w.idle AND q.queue = ANY (w.queues) AND w.expires_at > at);
END
$$;

-- Enqueues up to 1,000 jobs in the caller's transaction: a JSON array of objects with the fields of POST /v1/jobs, and
-- tenant, max_crashes and group_key. Answers one row for each, in order: the job's id (of the holder, if its unique key is
-- held), what became of it, and if it is new (inserted) when it was stored and when it is due. All of them are checked before
-- anything is written. `retry`: an earlier try may have been committed; an id that is there, also in history, `exists`.
CREATE FUNCTION goqueue.enqueue_many_v1(jobs json, retry boolean DEFAULT false, now timestamptz DEFAULT NULL)
RETURNS SETOF goqueue.enqueued_v1 LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on SET extra_float_digits = 1 AS $$
BEGIN
    IF json_typeof(jobs) IS DISTINCT FROM 'array' THEN
        PERFORM goqueue.refuse_v1('', 'must be a JSON array of jobs');
    ELSIF json_array_length(jobs) > 1000 THEN
        PERFORM goqueue.refuse_v1('', 'takes at most 1000 jobs at once');
    END IF;
    IF position('\u' IN jobs::text) > 0 THEN
        PERFORM goqueue.check_escapes_v1(n.value, '/' || n.nth - 1)
        FROM json_array_elements(jobs) WITH ORDINALITY AS n(value, nth);
    END IF;
    PERFORM goqueue.check_job_v1(n.value, '/' || n.nth - 1)
    FROM json_array_elements(jobs) WITH ORDINALITY AS n(value, nth);
    RETURN QUERY
        SELECT s.job_id, s.answer, s.created, s.due
        FROM goqueue.store_jobs_v1(jobs, true, retry, coalesce(enqueue_many_v1.now, clock_timestamp())) AS s
        ORDER BY s.nth;
END
$$;
COMMENT ON FUNCTION goqueue.enqueue_many_v1 IS 'Enqueues jobs in the caller''s transaction; a row for each, in order.';

-- Enqueues one job in the caller's transaction. The arguments are the fields of POST /v1/jobs; what is null is not given.
-- `unique` is a word of SQL: write "unique" => '"key"', or an object, or 'true' for a key by kind and arguments.
-- Answers as enqueue_many_v1. A job whose unique key is held, with on_conflict reject, is `rejected`, with the holder's id.
CREATE FUNCTION goqueue.enqueue_v1(
    kind text, args json DEFAULT '{}', queue text DEFAULT 'default', priority integer DEFAULT 5,
    delay_s double precision DEFAULT NULL, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT 20,
    max_crashes integer DEFAULT 3, timeout_s double precision DEFAULT NULL, schedule_to_start_s double precision DEFAULT NULL,
    deadline_s double precision DEFAULT NULL, retry json DEFAULT NULL, "unique" json DEFAULT NULL, tags text[] DEFAULT NULL,
    meta json DEFAULT NULL, tenant text DEFAULT 'default', id uuid DEFAULT NULL, group_key text DEFAULT '')
RETURNS goqueue.enqueued_v1 LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on SET extra_float_digits = 1 AS $$
DECLARE
    answer goqueue.enqueued_v1;
    job json := json_build_object(
        'kind', kind, 'args', args, 'queue', queue, 'priority', priority, 'delay_s', delay_s, 'run_at', run_at,
        'max_attempts', max_attempts, 'max_crashes', max_crashes, 'timeout_s', timeout_s,
        'schedule_to_start_s', schedule_to_start_s, 'deadline_s', deadline_s, 'retry', retry, 'unique', "unique",
        'tags', tags, 'meta', meta, 'tenant', tenant, 'id', id, 'group_key', group_key);
BEGIN
    PERFORM goqueue.check_escapes_v1(job, '');
    PERFORM goqueue.check_job_v1(job, '');
    SELECT s.job_id, s.answer, s.created, s.due INTO answer
    FROM goqueue.store_jobs_v1(json_build_array(job), false, false, clock_timestamp()) AS s;
    RETURN answer;
END
$$;
COMMENT ON FUNCTION goqueue.enqueue_v1 IS 'Enqueues one job in the caller''s transaction.';

-- Checks what an attempt has logged.
CREATE FUNCTION goqueue.check_logs_v1(logs json, pointer text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    item record;
BEGIN
    PERFORM goqueue.check_escapes_v1(logs, pointer);
    IF json_typeof(logs) <> 'array' OR json_array_length(logs) > 100 THEN
        PERFORM goqueue.refuse_v1(pointer, 'must be a list of at most 100 lines');
    END IF;
    FOR item IN
        SELECT l.value AS line, pointer || '/' || l.nth - 1 AS at
        FROM json_array_elements(logs) WITH ORDINALITY AS l(value, nth)
    LOOP
        IF json_typeof(item.line) <> 'object' OR item.line -> 'n' IS NULL OR item.line -> 'message' IS NULL THEN
            PERFORM goqueue.refuse_v1(item.at, 'must be an object with n, level and message');
        ELSIF coalesce(item.line ->> 'level', '') NOT IN ('debug', 'info', 'warning', 'error') THEN
            PERFORM goqueue.refuse_v1(item.at || '/level', 'must be debug, info, warning or error');
        END IF;
        PERFORM goqueue.check_number_v1(item.line -> 'n', item.at || '/n', 1, 2147483647, true);
        PERFORM goqueue.check_text_v1(item.line -> 'message', item.at || '/message', 0, 1000, false);
        IF item.line -> 'age_s' IS NOT NULL THEN
            PERFORM goqueue.check_number_v1(item.line -> 'age_s', item.at || '/age_s', 0, 316224000, false);
        END IF;
    END LOOP;
END
$$;

-- The logs of a job with the news, the newest 100; as queries/parts/add_logs.sql.
CREATE FUNCTION goqueue.add_logs_v1(kept jsonb, news json, attempt integer, fence bigint, at timestamptz)
RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF news IS NULL THEN
        RETURN kept;
    END IF;
    RETURN (
        SELECT jsonb_path_query_array(
            coalesce(kept, '[]') || coalesce(jsonb_agg(jsonb_build_object(
                'attempt', attempt, 'level', e.level, 'message', e.message, 'fence', fence, 'n', e.n,
                'at', to_char((at - make_interval(secs => coalesce(e.age_s, 0))) AT TIME ZONE 'UTC',
                    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) ORDER BY e.n), '[]'),
            '$[last - 99 to last]')
        FROM jsonb_to_recordset(news::jsonb) AS e(n integer, age_s double precision, level text, message text)
        WHERE e.n > CASE WHEN (kept #>> '{-1,fence}')::bigint = fence THEN (kept #>> '{-1,n}')::integer ELSE 0 END);
END
$$;

-- Makes the history partition of a day, as `goqueue db migrate` does ahead of time: a table of its own that is then attached.
-- Only the owner of the schema can. Somebody else may make it at the same moment.
CREATE FUNCTION goqueue.make_history_v1(day date) RETURNS void LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
DECLARE
    name text := 'job_history_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF NOT pg_has_role((SELECT c.relowner FROM pg_class AS c WHERE c.oid = 'goqueue.job_history'::regclass), 'USAGE') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'GQ004', MESSAGE = format('the history has no partition for %s', day),
            HINT = 'Run `goqueue server` or `goqueue db migrate` as the owner of the schema.';
    END IF;
    EXECUTE format('CREATE TABLE goqueue.%I (LIKE goqueue.job_history INCLUDING ALL)', name);
    EXECUTE format(
        'ALTER TABLE goqueue.job_history ATTACH PARTITION goqueue.%I FOR VALUES FROM (%L) TO (%L)', name, day, day + 1);
EXCEPTION WHEN duplicate_table OR duplicate_object OR unique_violation THEN
    NULL;
END
$$;

-- Completes a running job inside the caller's transaction, under its lease (the fence that its claim gave): it moves to history,
-- its unique key is free or held on. `retention_s` is how long it stays there (null: for ever, 0: it is not kept); without it
-- the default of the settings. Answers `applied`, or `already` if this lease has completed it before, perhaps in a transaction
-- whose answer was lost: then the caller's effects are there already. Raises GQ002 if the lease is not valid any more.
-- `progress` and `logs` are what the attempt has said last, and the job's row may not have: a list of lines, oldest first,
-- {n, level, message, age_s}, of which n counts those of the attempt from 1. What is there is not added again.
CREATE FUNCTION goqueue.complete_v1(
    job_id uuid, fence bigint, result json DEFAULT NULL, retention_s double precision DEFAULT 604800,
    now timestamptz DEFAULT NULL, progress json DEFAULT NULL, logs json DEFAULT NULL)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET standard_conforming_strings = on SET extra_float_digits = 1 AS $$
#variable_conflict use_column
DECLARE
    at timestamptz := coalesce(complete_v1.now, clock_timestamp());
    keep_until date;
    job goqueue.job;
    ended goqueue.job_history;
BEGIN
    IF retention_s NOT BETWEEN 0 AND 320000000 THEN
        PERFORM goqueue.refuse_v1('/retention_s', 'must be from 0 to 320000000, or null: for ever');
    ELSIF NOT has_table_privilege('goqueue.job_history', 'INSERT') THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'permission denied to complete jobs', HINT = 'Grant it: goqueue db grant ROLE --access worker';
    END IF;
    keep_until := CASE
        WHEN retention_s IS NULL THEN 'infinity'
        WHEN retention_s > 0 THEN ((at + make_interval(secs => retention_s)) AT TIME ZONE 'UTC')::date + 1
    END;
    IF result IS NOT NULL THEN
        PERFORM goqueue.check_escapes_v1(complete_v1.result, '/result');
        PERFORM goqueue.check_json_v1(complete_v1.result, '/result', 65536);
    END IF;
    IF progress IS NOT NULL THEN
        PERFORM goqueue.check_escapes_v1(complete_v1.progress, '/progress');
        PERFORM goqueue.check_json_v1(complete_v1.progress, '/progress', 4096);
    END IF;
    IF logs IS NOT NULL THEN
        PERFORM goqueue.check_logs_v1(complete_v1.logs, '/logs');
    END IF;
    SELECT j.* INTO job
    FROM goqueue.job AS j
    WHERE j.id = complete_v1.job_id AND j.fence = complete_v1.fence AND j.state + 0 = 1
    FOR UPDATE;
    IF NOT FOUND THEN
        IF EXISTS (
            SELECT FROM goqueue.job_history AS h
            WHERE h.id = complete_v1.job_id AND h.fence = complete_v1.fence AND h.state = 3)
        THEN
            RETURN 'already';
        END IF;
        RAISE EXCEPTION USING
            ERRCODE = 'GQ002',
            MESSAGE = format('lease lost: job %s is no longer leased under fence %s', complete_v1.job_id, complete_v1.fence),
            HINT = 'Roll back: another attempt does this job, or has done it'
                || CASE WHEN current_setting('transaction_isolation') = 'read committed' THEN '.'
                ELSE ', or your snapshot is older than the claim: complete in READ COMMITTED.' END;
    END IF;
    DELETE FROM goqueue.job AS j WHERE j.id = job.id;
    IF keep_until IS NOT NULL THEN
        IF keep_until < 'infinity' AND to_regclass('goqueue.job_history_' || to_char(keep_until, 'YYYYMMDD')) IS NULL THEN
            PERFORM goqueue.make_history_v1(keep_until);
        END IF;
        -- By name: a column that is added to both tables later goes along.
        ended := json_populate_record(NULL::goqueue.job_history, row_to_json(job));
        ended.state := 3;
        ended.reason := NULL;
        ended.expire_at := NULL;
        ended.first_attempted_at := NULL;
        ended.finished_at := at;
        ended.expires_on := keep_until;
        ended.result := complete_v1.result;
        ended.progress := coalesce(complete_v1.progress, job.progress);
        ended.logs := goqueue.add_logs_v1(job.logs, complete_v1.logs, job.attempt, job.fence, at);
        -- An id that is history already ends again on the same day (a client used it twice): the later end stays.
        DELETE FROM goqueue.job_history AS h WHERE h.id = job.id AND h.expires_on = keep_until;
        INSERT INTO goqueue.job_history SELECT ended.*;
    END IF;
    IF job.flags & 1 = 1 THEN
        IF job.flags & 8 = 0 OR keep_until IS NULL AND job.key_window_s IS NULL THEN
            DELETE FROM goqueue.job_key AS k
            WHERE k.tenant = job.tenant AND k.queue = job.queue AND k.key = job.key AND k.job_id = job.id;
        ELSE
            UPDATE goqueue.job_key AS k
            SET until = least(
                coalesce(at + make_interval(secs => job.key_window_s), 'infinity'),
                keep_until::timestamp AT TIME ZONE 'UTC')
            WHERE k.tenant = job.tenant AND k.queue = job.queue AND k.key = job.key AND k.job_id = job.id;
        END IF;
    END IF;
    RETURN 'applied';
END
$$;
COMMENT ON FUNCTION goqueue.complete_v1 IS 'Completes a running job in the caller''s transaction, under its fence.';
