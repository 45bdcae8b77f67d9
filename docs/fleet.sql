-- The verdict on each program of each object on each kernel: the tables of
-- `tracepoints audit --emit-reads`, joined with those of `tracepoints catalog`. Written in the
-- SQL that DuckDB, DataFusion and Spark share; docs/fleet.md shows how to run it, and
-- docs/catalog.md what the tables are.
--
-- The rules are those of `tracepoints audit`, whose verdicts these equal. As numbers, so that
-- the worst is the greatest: 0 right, 1 unknown, 2 wrong, 3 refused, 4 absent.
WITH
-- The places of the contexts of events that programs are for.
slots AS (
    SELECT f.kernel, f.event, f.position, f.field, f.member, f.kind, f.context_offset,
           f.context_size
    FROM fields f
    JOIN (SELECT DISTINCT target FROM programs WHERE program_type = 'tracepoint') p
      ON p.target = f.event
    WHERE f.context_offset IS NOT NULL
),
-- Each with the names that a source may use for it. A system call's number has several, in
-- whatever struct the source declares.
named AS (
    SELECT kernel, event, position, 0 AS precedence, member AS name, kind, context_offset,
           context_size
    FROM slots
    UNION ALL
    SELECT kernel, event, position, 1, field, kind, context_offset, context_size
    FROM slots
    UNION ALL
    SELECT s.kernel, s.event, s.position, 2, n.name, s.kind, s.context_offset, s.context_size
    FROM slots s
    JOIN events e ON e.kernel = s.kernel AND e.event = s.event AND e.is_syscall
    CROSS JOIN (SELECT 'nr' AS name UNION ALL SELECT 'id' UNION ALL SELECT 'syscall_nr') n
    WHERE s.field = '__syscall_nr'
),
-- Of several places of one name, the one to which the name belongs first.
ranked AS (
    SELECT named.*,
           ROW_NUMBER() OVER (PARTITION BY kernel, event, name
                              ORDER BY precedence, position) AS choice
    FROM named
),
places AS (
    SELECT kernel, event, position, name, kind, context_offset AS place,
           context_size AS place_size, context_offset + context_size AS place_end
    FROM ranked WHERE choice = 1
),
-- What each program reads on each kernel, with the event there.
facts AS (
    SELECT v.kernel, r.*, p.program_type, p.target,
           COALESCE(k.long_size, 8) AS pointer_size, k.byte_order AS kernel_order,
           e.is_syscall, e.record_end, t.arguments,
           r.found_home IS NOT NULL AND r.found_home = e.home AND r.found_type = e.type_id
               AND NOT e.is_syscall AS is_of_context,
           -- The size of one argument, where `args` is meant.
           CASE WHEN e.is_syscall AND r.member = 'args' THEN a.place_size END AS argument_size
    FROM variants v
    JOIN programs p ON p.object = v.object AND p.program = v.program
    JOIN reads r ON r.object = v.object AND r.program = v.program AND r.variant = v.variant
    JOIN kernels k ON k.kernel = v.kernel
    LEFT JOIN events e ON e.kernel = v.kernel AND e.event = p.target
                      AND p.program_type = 'tracepoint'
    LEFT JOIN tracepoints t ON t.kernel = v.kernel AND t.tracepoint = p.target
                      AND p.program_type <> 'tracepoint'
    LEFT JOIN places a ON a.kernel = v.kernel AND a.event = p.target AND a.name = 'args[0]'
),
-- An element of `args` is a place of its own.
meant AS (
    SELECT facts.*,
           CASE WHEN argument_size IS NULL THEN member
                ELSE 'args[' || CAST(CAST(FLOOR(CAST(behind AS DOUBLE) / argument_size) AS BIGINT)
                                     AS STRING) || ']' END AS wanted,
           CASE WHEN argument_size IS NULL THEN behind
                ELSE behind - argument_size
                     * CAST(FLOOR(CAST(behind AS DOUBLE) / argument_size) AS BIGINT)
           END AS wanted_behind
    FROM facts
),
placed AS (
    SELECT m.*, p.position AS place_position, p.kind AS place_kind, p.place, p.place_size,
           p.place_end,
           n.position AS number_position, c.kind AS content_kind,
           c.context_offset + c.context_size AS content_start,
           p.kind IN ('scalar', 'pointer') AND m.own_size IS NOT NULL
               AND m.own_size < p.place_size AS is_narrower
    FROM meant m
    LEFT JOIN places p ON p.kernel = m.kernel AND p.event = m.target AND p.name = m.wanted
                      AND m.kind = 'member'
    -- The place of the system call's number.
    LEFT JOIN places n ON n.kernel = m.kernel AND n.event = m.target AND n.name = 'nr'
                      AND m.is_syscall
    -- The location of the content that is read.
    LEFT JOIN slots c ON c.kernel = m.kernel AND c.event = m.target
                      AND c.context_offset = m.read_offset AND m.kind = 'content'
),
judged AS (
    SELECT placed.*,
        -- Whether the bytes are those that the source means.
        CASE
            WHEN decided = 'right' THEN 0
            WHEN decided = 'unknown' THEN 1
            WHEN decided = 'wrong' THEN 2
            WHEN decided = 'refused' THEN 3
            WHEN decided = 'absent' THEN 4
            WHEN kind = 'content' THEN CASE
                WHEN is_load THEN 3
                WHEN behind = CASE content_kind WHEN 'rel_loc' THEN content_start ELSE 0 END
                    THEN 0
                WHEN content_kind = 'rel_loc' AND behind < content_start THEN 2
                ELSE 1 END
            WHEN kind = 'argument' THEN CASE
                WHEN arguments IS NULL OR read_size IS NULL THEN 1
                WHEN read_offset < 0 OR read_offset + read_size > arguments * 8
                    THEN CASE WHEN is_load THEN 3 ELSE 2 END
                WHEN is_load AND read_offset
                     % CASE WHEN program_type = 'typed' OR read_size < 1 THEN 8
                            ELSE read_size END <> 0 THEN 3
                WHEN is_moved THEN 1
                ELSE 0 END
            WHEN kind <> 'member' THEN 1
            -- The kernel's pointer to the registers is there.
            WHEN member_offset < pointer_size THEN 2
            WHEN place IS NULL THEN CASE
                WHEN is_of_context THEN 0
                WHEN is_kernels THEN 2
                ELSE 1 END
            -- The low bytes of a number come last.
            WHEN kernel_order = 'big' AND is_narrower AND NOT is_of_context
                THEN CASE WHEN member_offset = place_end - own_size + wanted_behind
                          THEN 0 ELSE 2 END
            WHEN member_offset <> place + wanted_behind AND NOT is_of_context THEN 2
            WHEN member_offset + member_size > place_end
                THEN CASE WHEN is_syscall AND number_position = place_position
                          THEN 1 ELSE 2 END
            ELSE 0
        END AS bytes,
        -- Whether the kernel takes the instruction.
        CASE
            WHEN program_type <> 'tracepoint' OR NOT is_load OR read_offset IS NULL
                 OR read_size IS NULL OR kind = 'content' THEN 0
            WHEN read_offset < 0 AND read_offset + read_size = 0 AND read_offset % read_size = 0
                THEN 0
            WHEN read_offset < pointer_size THEN 3
            WHEN read_offset + read_size > 8192 THEN 3
            WHEN read_offset % read_size <> 0 THEN 3
            WHEN read_offset + read_size > record_end THEN 3
            WHEN is_moved THEN 1
            ELSE 0
        END AS instruction_verdict
    FROM placed
),
of_reads AS (
    SELECT object, program, kernel,
        MAX(CASE
            -- A fault of code that may never run is not known to be one.
            WHEN is_guarded AND (bytes IN (2, 3) OR instruction_verdict IN (2, 3)) THEN 1
            -- Old kernels refuse to hand the context itself on.
            WHEN is_handed_on AND bytes = 0 AND instruction_verdict = 0 THEN 1
            WHEN instruction_verdict > 0 THEN instruction_verdict
            ELSE bytes END) AS verdict
    FROM judged
    GROUP BY object, program, kernel
),
-- Every program on every kernel of the catalog.
verdicts AS (
    SELECT p.object, p.program, k.kernel, p.section, p.target,
        CASE
            WHEN k.byte_order IS NOT NULL AND k.byte_order <> p.byte_order THEN 4
            WHEN p.has_relocations AND NOT k.has_btf THEN 4
            WHEN p.target IS NULL THEN 1
            WHEN p.program_type = 'tracepoint' AND e.event IS NULL THEN 4
            WHEN p.program_type = 'tracepoint' AND e.error IS NOT NULL THEN 1
            WHEN p.program_type = 'tracepoint' AND (NOT e.is_listed OR e.is_probe_event) THEN 3
            WHEN p.program_type <> 'tracepoint' AND t.tracepoint IS NULL THEN 4
            -- The objects were never held against this kernel.
            WHEN v.variant IS NULL THEN 1
            ELSE COALESCE(r.verdict, 0)
        END AS verdict
    FROM programs p
    CROSS JOIN kernels k
    LEFT JOIN variants v ON v.object = p.object AND v.program = p.program
                        AND v.kernel = k.kernel
    LEFT JOIN events e ON e.kernel = k.kernel AND e.event = p.target
                      AND p.program_type = 'tracepoint'
    LEFT JOIN tracepoints t ON t.kernel = k.kernel AND t.tracepoint = p.target
                      AND p.program_type <> 'tracepoint'
    LEFT JOIN of_reads r ON r.object = p.object AND r.program = p.program
                        AND r.kernel = k.kernel
)
SELECT object, program, kernel, section, target,
    CASE verdict WHEN 0 THEN 'right' WHEN 1 THEN 'unknown' WHEN 2 THEN 'wrong'
                 WHEN 3 THEN 'refused' ELSE 'absent' END AS verdict
FROM verdicts
ORDER BY object, program, kernel
