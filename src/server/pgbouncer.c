/*
 * pgbouncer.c
 *	  The clients' PgBouncers: pause them, point them at this node.
 *
 * Every node keeps a connection to the admin console of each PgBouncer that
 * pg_elector.pgbouncer names, so that a leader finds it open, and what would be in
 * its way is known before.  A PgBouncer has one configuration file a node,
 * <node>.ini, all in the directory of the one it was started with.  To point it
 * at this node is to name this node's file to it (SET conffile) and to have it
 * loaded (RELOAD).  The node whose gate is open does so when it opens, on every
 * new connection, and every CHECK_INTERVAL, so that whatever a PgBouncer is
 * restarted with is put right.
 *
 * A PgBouncer remembers by itself, and no longer than it runs, what a leader has
 * to know of it.  For that each <node>.ini has one more database, pg_elector,
 * which no client uses:
 *
 *	  its dbname is the node's name, and tells which file is loaded: RELOAD may
 *	  succeed although there is no such file (PgBouncer 1.18 only logs it);
 *
 *	  it is paused (PAUSE pg_elector) before all the others are.  So whoever
 *	  leads next lets the clients go on, whatever became of the leader that
 *	  paused them, and leaves alone what an operator has paused.
 *
 * Nobody is made to wait for a PgBouncer that does not answer: all are marked
 * first, which holds no client up, and only those that have answered to it are
 * paused, all at once.  PAUSE waits for the transactions that are under way;
 * how long it is waited for, the elector decides.
 *
 * The trap: clients wait from the first PAUSE until some leader has made RESUME, and
 * only one that knows of the PgBouncer does.  So the setting has to be the same on
 * all nodes.
 */
#include "pgbouncer.h"

#include "console.h"

#define CONSOLES_MAX 16

/* How long one that does not answer holds up the pausing of the others. */
#define MARK_BOUND 300000

/*
 * A server connection that is being opened when its pool is paused is closed, and
 * PgBouncer takes that for a failed login: the next client that it has no server
 * for loses its connection.  So no more are opened from then on, and those that
 * are on their way have so long to get through.
 */
#define CALM_BOUND 300000

#define NOT_SOON ((ElectorTime) 3600 * 1000000)

static ElectorConsole consoles[CONSOLES_MAX];
static int	nconsoles = 0;
static bool leading = false;	/* the gate is open */
static ElectorTime pausing_since = 0;	/* 0: clients are to go on */

/* --- the setting --- */

/* One more of the setting's parts. */
static bool
add_console(const char *conninfo, ElectorConsole *parsed, int *n, char *error, size_t size)
{
	ElectorConsole *console = &parsed[*n];

	if (*n == CONSOLES_MAX)
	{
		snprintf(error, size, "It names more than %d PgBouncers.", CONSOLES_MAX);
		return false;
	}
	if (!elector_console_init(console, conninfo, *n + 1, error, size))
		return false;
	for (int i = 0; i < *n; i++)
	{
		if (strcmp(parsed[i].name, console->name) == 0)
		{
			snprintf(error, size, "It names PgBouncer \"%s\" twice.", console->name);
			return false;
		}
	}
	(*n)++;
	return true;
}

/* The setting's parts; false with a sentence in error if it cannot be used. */
static bool
parse_list(const char *list, ElectorConsole *parsed, int *n, char *error, size_t size)
{
	char	   *copy = pstrdup(list);
	char	   *rest = copy;
	char	   *item;
	bool		valid = true;

	*n = 0;
	while (valid && (item = strsep(&rest, ";")) != NULL)
	{
		item += strspn(item, " \t");
		if (*item != '\0')
			valid = add_console(item, parsed, n, error, size);
	}
	pfree(copy);
	return valid;
}

bool
elector_pgbouncer_valid(const char *list, char *error, size_t size)
{
	ElectorConsole *parsed = palloc(sizeof(consoles));
	int			n;
	bool		valid = parse_list(list, parsed, &n, error, size);

	pfree(parsed);
	return valid;
}

void
elector_pgbouncer_configure(void)
{
	ElectorConsole *parsed = palloc(sizeof(consoles));
	char		error[ELECTOR_TEXT_SIZE];
	int			n;

	if (!parse_list(elector_pgbouncer, parsed, &n, error, sizeof(error)))
		n = 0;					/* not a value that the check lets pass */
	for (int i = 0; i < nconsoles; i++)
	{
		bool		kept = false;

		for (int j = 0; j < n; j++)
		{
			if (strcmp(parsed[j].conninfo, consoles[i].conninfo) != 0)
				continue;
			parsed[j] = consoles[i];
			kept = true;
		}
		if (!kept)
			elector_console_finish(&consoles[i]);
	}
	memcpy(consoles, parsed, sizeof(ElectorConsole) * n);
	nconsoles = n;
	pfree(parsed);
}

/* --- for the loop --- */

/* Have all been marked that will be? */
static bool
all_marked(ElectorTime now)
{
	if (now >= pausing_since + MARK_BOUND)
		return true;
	for (int i = 0; i < nconsoles; i++)
	{
		const ElectorConsoleTalk *talk = &consoles[i].talk;

		if (!talk->ready && !talk->refused && !elector_console_unreachable(&consoles[i]))
			return false;
	}
	return true;
}

static void
begin_anew(void)
{
	for (int i = 0; i < nconsoles; i++)
		elector_console_begin_anew(&consoles[i], leading);
}

ElectorTime
elector_pgbouncer_pump(ElectorTime now)
{
	ElectorTime again = now + NOT_SOON;

	if (leading != elector_gate_is_open())
	{
		leading = !leading;
		begin_anew();
	}
	for (int i = 0; i < nconsoles; i++)
	{
		ElectorConsoleWish wish = {leading};

		wish.pausing = pausing_since != 0;
		wish.all_marked = wish.pausing && all_marked(now);
		wish.calm_or_not = now >= pausing_since + MARK_BOUND + CALM_BOUND;
		again = Min(again, elector_console_pump(&consoles[i], &wish, now));
	}
	return again;
}

int
elector_pgbouncer_count(void)
{
	return nconsoles;
}

void
elector_pgbouncer_add_events(WaitEventSet *set)
{
	for (int i = 0; i < nconsoles; i++)
		elector_console_add_events(&consoles[i], set);
}

bool
elector_pgbouncer_problem(char *text, size_t size)
{
	for (int i = 0; i < nconsoles; i++)
	{
		if (consoles[i].problem[0] == '\0')
			continue;
		snprintf(text, size, "PgBouncer \"%.60s\": %.180s", consoles[i].name,
				 consoles[i].problem);
		return true;
	}
	return false;
}

/* --- for the ports --- */

/* Is there anything to wait for any more? */
static bool
settled(const ElectorConsole *console, ElectorTime patience, ElectorTime now)
{
	const ElectorConsoleTalk *talk = &console->talk;

	if (talk->paused || talk->refused || elector_console_unreachable(console))
		return true;
	if (!talk->ready)
		return all_marked(now);
	return console->step == ELECTOR_CONSOLE_PAUSE && now >= console->since + patience;
}

bool
elector_pgbouncer_pause(ElectorTime patience)
{
	ElectorTime now = elector_now();

	if (pausing_since == 0)
	{
		pausing_since = now;
		for (int i = 0; i < nconsoles; i++)
			elector_console_begin_pausing(&consoles[i]);
	}
	for (int i = 0; i < nconsoles; i++)
	{
		if (!settled(&consoles[i], patience, now))
			return false;
	}
	return true;
}

void
elector_pgbouncer_resume(void)
{
	pausing_since = 0;
	begin_anew();
}
