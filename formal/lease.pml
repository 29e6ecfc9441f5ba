/*
 * One job, its workers, the store's clock, two sweepers and an operator: claim, expire, sweep, settle.
 *
 * What is modelled is what the SQL does to one row. A statement that writes locks the row and checks it again, so it is
 * one atomic step; everything between two statements is not, and everything can happen there: a worker dies or sleeps,
 * its lease ends, an answer is lost and the request is made again, a sweeper goes on where it stopped long ago.
 *
 * Checked (formal/README.md says how): the assertions, that nothing gets stuck, and that the job is final in the end.
 * BROKEN takes one guard away; each of these variants must fail.
 *   1  settle does not look at the fence          5  a claim does not need a living worker row, nor the full sweep exist
 *   2  a claim does not raise the fence           6  a manual retry starts the fence anew
 *   3  the sweep does not look again              7  a repeated settle is not recognised as one's own
 *   4  a sweep does not raise the fence           8  a crash on the last attempt waits again
 */

#ifndef BROKEN
#define BROKEN 0
#endif

#define WORKERS      2    /* 0 lives for ever, or nobody could finish the job; 1 may die at any moment */
#ifndef ATTEMPTS_MAX
#define ATTEMPTS_MAX 2
#endif
#define CRASHES_MAX  2
#define LOST_MAX     1    /* answers that do not arrive */
#ifndef EXPIRE_MAX
#define EXPIRE_MAX   2    /* leases that end although their worker lives */
#endif
#define HANDED_MAX   1    /* hand-backs (a stop, a snooze) */
#define RETRIES_MAX  1    /* by hand */

mtype = { waiting, running, final };
mtype = { applied, already, lost };
mtype = { complete, retry, release, crash };

/* The row. */
mtype state = waiting;
byte fence = 0, attempt = 0, crashes = 0, owner = 0;
byte attempts_max = ATTEMPTS_MAX;

/* Worker rows: whether their lease holds; there is none before the first beat. */
bool alive[WORKERS], there[WORKERS];

/* What faults are left. */
byte answers_lost = 0, expiries = 0, handed = 0, retries = 0;

/* The books of an outsider. */
byte claims = 0, sweeps = 0, handed_back = 0, ends = 0, reopened = 0;
byte claimer = 0;                 /* who made the last claim: the only one whose outcome may count */
bool decided = true;              /* whether the last claim has been decided, by its worker or by a sweep */
byte decided_by_worker = 0;       /* the fence that its own worker has decided last */

inline law() {
    assert(fence == claims + sweeps);
    assert(attempt == claims - handed_back);
    assert(ends <= 1 + reopened);
    assert(attempt <= ATTEMPTS_MAX + reopened)
}

inline end() {
    state = final;
    ends++
}

/* -- claim: one statement ------------------------------------------------------------------------ */

inline claim(w, f, ok) {
    atomic {
        ok = false;
        if
        :: state == waiting && (alive[w] || BROKEN == 5) ->
            state = running;
            if
            :: BROKEN == 2 -> skip
            :: else -> fence++
            fi;
            attempt++;
            owner = w;
            claims++;
            claimer = w;
            decided = false;
            f = fence;
            ok = true;
            law()
        :: else -> skip
        fi
    }
}

/* -- settle: one statement, and a look when it wrote nothing ----------------------------------------- */

inline settle(w, f, outcome, answer) {
    atomic {
        if
        :: state == running && (fence == f || BROKEN == 1) ->
            assert(claimer == w);       /* an old lease decides nothing */
            assert(!decided);           /* nothing is decided twice */
            decided = true;
            decided_by_worker = f;
            if
            :: outcome == complete -> end()
            :: outcome == retry ->
                if
                :: attempt >= attempts_max -> end()
                :: else -> state = waiting
                fi
            :: outcome == release -> state = waiting; attempt--; handed_back++
            :: outcome == crash ->
                crashes++;
                if
                :: (crashes >= CRASHES_MAX || attempt >= attempts_max) && BROKEN != 8 -> end()
                :: else -> state = waiting
                fi
            fi;
            answer = applied;
            law()
        :: else ->
            if
            :: state != running && fence == f && BROKEN != 7 -> answer = already
            :: else -> answer = lost
            fi
        fi
    }
}

/* -- a worker ------------------------------------------------------------------------------------------ */

proctype Worker(byte w; bool mortal) {
    byte f = 0;
    mtype outcome = 0, answer = 0;
    bool holds = false, wrote = false;

    do
    /* A beat: the first makes the row. */
    :: atomic { !alive[w] -> there[w] = true; alive[w] = true }

    /* A claim, whose answer may not arrive. */
    :: atomic {
        !holds && state == waiting && (alive[w] || BROKEN == 5) ->
        claim(w, f, holds);
        if
        :: holds && answers_lost < LOST_MAX -> answers_lost++; holds = false; f = 0
        :: holds
        :: !holds
        fi
       }

    /* A stray, which the answer to a beat has named: handed back while there are hand-backs left. */
    :: atomic {
        !holds && state == running && owner == w ->
        f = fence; holds = true;
        if
        :: handed < HANDED_MAX -> handed++; outcome = release
        :: handed == HANDED_MAX -> outcome = retry
        fi
       }

    /* The handler runs, for as long as it likes, lease or no lease; and ends somehow. */
    :: atomic {
        holds && outcome == 0 ->
        if
        :: outcome = complete
        :: outcome = retry
        :: handed < HANDED_MAX -> handed++; outcome = release
        :: outcome = crash          /* a process of its own has died under it */
        fi
       }

    /* A settle. When its answer does not arrive it is sent again, the same. */
    :: atomic {
        holds && outcome != 0 ->
        settle(w, f, outcome, answer);
        if
        :: answer == applied && answers_lost < LOST_MAX -> answers_lost++; wrote = true
        :: true ->
            /* Who wrote, and meets the row as it was left, must hear that it was its own write. */
            assert(!(wrote && answer == lost && decided_by_worker == f && fence == f && state != running));
            holds = false; wrote = false; f = 0; outcome = 0
        fi;
        answer = 0
       }

    /* kill -9. A supervisor that lives says what had started; or else the lease just ends. */
    :: atomic {
        mortal ->
        if
        :: holds && outcome == 0 -> settle(w, f, crash, answer)
        :: true
        fi;
        break
       }
    :: atomic { state == final && !holds && retries == RETRIES_MAX -> break }
    od;
    atomic { alive[w] = false; f = 0; holds = false; wrote = false; outcome = 0; answer = 0 }
}

/* -- time ------------------------------------------------------------------------------------------------ */

proctype Clock() {
    do
    :: atomic { expiries < EXPIRE_MAX && alive[0] -> expiries++; alive[0] = false }
    :: atomic { expiries < EXPIRE_MAX && alive[1] -> expiries++; alive[1] = false }
    :: expiries == EXPIRE_MAX || (state == final && retries == RETRIES_MAX) -> break
    od
}

/* -- the sweep: picks with one look, writes with another; two of them, of which one may be a deposed leader ------- */

proctype Sweeper() {
    byte f;
end_sweeper:
    do
    :: atomic { state == running && !alive[owner] && (there[owner] || BROKEN != 5) -> f = fence };
        /* Anything may happen here. */
        atomic {
            if
            :: BROKEN == 3 || (state == running && fence == f && !alive[owner]) ->
                assert(!decided);
                assert(state == running);
                decided = true;
                crashes++;
                if
                :: BROKEN == 4 -> skip
                :: else -> fence++
                fi;
                sweeps++;
                if
                :: (crashes >= CRASHES_MAX || attempt >= attempts_max) && BROKEN != 8 -> end()
                :: else -> state = waiting
                fi;
                law()
            :: else -> skip
            fi;
            f = 0
        }
    od
}

/* -- a manual retry of what is final ------------------------------------------------------------------------ */

proctype Operator() {
    do
    :: retries < RETRIES_MAX ->
        atomic {
            state == final ->
            retries++;
            reopened++;
            state = waiting;
            if
            :: BROKEN == 6 -> fence = 0
            :: else -> skip
            fi;
            if
            :: attempts_max <= attempt -> attempts_max = attempt + 1
            :: else -> skip
            fi;
            law()
        }
    :: retries == RETRIES_MAX -> break
    od
}

init {
    atomic {
        run Worker(0, false);
        run Worker(1, true);
        run Clock();
        run Sweeper();
        run Sweeper();
        run Operator()
    }
}

ltl ends_for_good { <>[] (state == final) }
