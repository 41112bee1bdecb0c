/*
 * main.c
 *	  Run worlds by their seeds, and tell what was found.
 *
 *	  sim [--from=SEED] [--seeds=N | --seconds=N] [--jobs=N] [--tap]
 *	  sim --seed=SEED [--trace] [--shrink] [--theme=NUMBER] [--rule=NAME]
 *	  sim --negatives [--rule=NAME] [--rare] [--limit=N] [--jobs=N]
 *
 * --rare tries those rules, too, that need tens of thousands of seeds.  --theme gives all worlds that one of enum Theme, instead of their own.
 *
 * --negatives breaks one rule after the other, and wants each to be found; it is
 * there only in the program that was built for it.
 */
#include "sim.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX 64

typedef struct Options
{
	uint64_t	from;
	int64_t		seeds;
	int64_t		seconds;
	int			jobs;
	bool		tap;
	bool		one;
	bool		trace;
	bool		shrink;
	bool		negatives;
	bool		rare;
	const char *rule;
	const char *theme;
	int64_t		limit;
} Options;

/* What one job tells its parent. */
typedef struct Found
{
	bool		found;
	uint64_t	seed;
	Violation	violation;
	Counters	counters;
	int64_t		worlds;
} Found;

static World world;

static void
add_counters(Counters *sum, const Counters *more)
{
	sum->time += more->time;
	sum->events += more->events;
	sum->elections += more->elections;
	sum->leaderships += more->leaderships;
	sum->faults += more->faults;
	sum->commits += more->commits;
	sum->promised += more->promised;
}

static double
seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* Every jobs'th seed, until something is found or there are no more. */
static void
run_seeds(const Options *options, int job, double until, Found *found)
{
	for (uint64_t i = (uint64_t) job; options->seeds == 0 || i < (uint64_t) options->seeds;
		 i += (uint64_t) options->jobs)
	{
		if (options->seconds != 0 && seconds_now() >= until)
			break;
		world_run(&world, options->from + i, NULL, 0, TRACING_OFF);
		found->worlds++;
		add_counters(&found->counters, &world.counters);
		if (world.violation.found)
		{
			found->found = true;
			found->seed = options->from + i;
			found->violation = world.violation;
			world_free(&world);
			return;
		}
		world_free(&world);
	}
}

/* All jobs; the finding with the lowest seed is the one that is told. */
static void
run_jobs(const Options *options, Found *all)
{
	int			pipes[JOBS_MAX][2];
	double		until = seconds_now() + (double) options->seconds;

	memset(all, 0, sizeof(*all));
	fflush(stdout);
	for (int job = 0; job < options->jobs; job++)
	{
		if (pipe(pipes[job]) != 0)
			abort();
		if (fork() == 0)
		{
			Found		found;

			memset(&found, 0, sizeof(found));
			run_seeds(options, job, until, &found);
			if (write(pipes[job][1], &found, sizeof(found)) != sizeof(found))
				_exit(1);
			exit(0);
		}
		close(pipes[job][1]);
	}
	for (int job = 0; job < options->jobs; job++)
	{
		Found		found;
		int			status;

		if (read(pipes[job][0], &found, sizeof(found)) != sizeof(found))
		{
			fprintf(stderr, "a job broke off\n");
			exit(2);
		}
		close(pipes[job][0]);
		all->worlds += found.worlds;
		add_counters(&all->counters, &found.counters);
		if (found.found && (!all->found || found.seed < all->seed))
		{
			all->found = true;
			all->seed = found.seed;
			all->violation = found.violation;
		}
		if (wait(&status) < 0 || status != 0)
		{
			fprintf(stderr, "a job failed\n");
			exit(2);
		}
	}
}

static void
print_story(const World *story)
{
	int64_t		first = story->ntrace > SIM_TRACE_LINES ? story->ntrace - SIM_TRACE_LINES : 0;

	for (int64_t i = first; i < story->ntrace; i++)
		printf("# %s\n", story->trace[i % SIM_TRACE_LINES]);
	for (int i = 0; i < story->nfaults; i++)
	{
		char		text[256];

		fault_describe(story, &story->faults[i], text, sizeof(text));
		printf("# fault %s\n", text);
	}
	printf("# seed %llu, theme %d: %s: %s\n", (unsigned long long) story->seed,
		   (int) story->theme,
		   story->violation.found ? story->violation.invariant : "nothing broken",
		   story->violation.found ? story->violation.text : "");
}

/* Leave out faults, as long as the same invariant breaks. */
static void
shrink(uint64_t seed, Fault *faults, int *nfaults)
{
	Violation	first;
	bool		smaller = true;

	world_run(&world, seed, NULL, 0, TRACING_OFF);
	first = world.violation;
	*nfaults = world.nfaults;
	memcpy(faults, world.faults, sizeof(world.faults));
	world_free(&world);
	while (first.found && smaller)
	{
		smaller = false;
		for (int i = *nfaults - 1; i >= 0; i--)
		{
			Fault		fewer[SIM_FAULTS_MAX];

			memcpy(fewer, faults, sizeof(fewer));
			memmove(&fewer[i], &fewer[i + 1], (size_t) (*nfaults - i - 1) * sizeof(Fault));
			world_run(&world, seed, fewer, *nfaults - 1, TRACING_OFF);
			if (world.violation.found &&
				strcmp(world.violation.invariant, first.invariant) == 0)
			{
				memcpy(faults, fewer, sizeof(fewer));
				(*nfaults)--;
				smaller = true;
			}
			world_free(&world);
		}
	}
}

static int
tell_one(const Options *options, uint64_t seed)
{
	Fault		faults[SIM_FAULTS_MAX];
	int			nfaults = 0;
	bool		found;

	if (options->shrink)
		shrink(seed, faults, &nfaults);
	world_run(&world, seed, options->shrink ? faults : NULL, nfaults,
			  options->trace ? TRACING_ALL : TRACING_LAST);
	print_story(&world);
	found = world.violation.found;
	world_free(&world);
	return found ? 1 : 0;
}

static void
print_counters(const Found *all, double took, int jobs)
{
	const Counters *counters = &all->counters;

	printf("# %lld worlds, %.1f simulated hours, %lld elections, %lld leaderships, %lld faults, %lld commits, %lld without etcd, %lld events\n",
		   (long long) all->worlds, (double) counters->time / 3.6e9,
		   (long long) counters->elections, (long long) counters->leaderships,
		   (long long) counters->faults, (long long) counters->commits,
		   (long long) counters->promised,
		   (long long) counters->events);
	printf("# %.1f s; %.0f simulated hours per second of one core\n", took,
		   (double) counters->time / 3.6e9 / took / jobs);
}

static int
run_worlds(const Options *options)
{
	Found		all;
	double		began = seconds_now();

	run_jobs(options, &all);
	printf("# seeds from %llu\n", (unsigned long long) options->from);
	print_counters(&all, seconds_now() - began, options->jobs);
	if (all.found)
	{
		Options		one = *options;

		one.shrink = true;
		printf("%s - invariants hold\n", options->tap ? "not ok 1" : "BROKEN");
		printf("# seed %llu breaks %s: %s\n", (unsigned long long) all.seed,
			   all.violation.invariant, all.violation.text);
		tell_one(&one, all.seed);
	}
	else
		printf("%s - invariants hold\n", options->tap ? "ok 1" : "fine");
	if (options->tap)
		printf("1..1\n");
	return all.found ? 1 : 0;
}

/* --- rules broken on purpose --- */

#ifdef ELECTOR_BREAKABLE

ElectorRule elector_broken_rule = ELECTOR_RULES;

typedef struct Negative
{
	const char *name;
	const char *sentence;
} Negative;

static const Negative core_rules[] = {
#define ELECTOR_RULE_ROW(symbol, sentence) {#symbol, sentence},
#include "core/rules_table.h"
#undef ELECTOR_RULE_ROW
};

static const Negative world_rules[WORLD_RULES] = {
	[WORLD_RULE_WALRECEIVER_GONE] = {"WALRECEIVER_GONE", "a fence does not wait for the walreceiver (S2)"},
	[WORLD_RULE_ALL_REPLAYED] = {"ALL_REPLAYED", "a fence answers before all WAL held is replayed (S5)"},
	[WORLD_RULE_GUARDED_CONNECT] = {"GUARDED_CONNECT", "a walreceiver connects without permission (S2)"},
	[WORLD_RULE_TERM_AT_UPSTREAM] = {"TERM_AT_UPSTREAM", "a walreceiver reconnects to whatever its upstream leads by now (S1)"},
	[WORLD_RULE_STRAY_AT_START] = {"STRAY_AT_START", "nobody asks at a start whether the server ended on a timeline taken by hand (S18)"},
	[WORLD_RULE_BORN_STANDBY] = {"BORN_STANDBY", "a crashed primary starts as one (I5)"},
	[WORLD_RULE_STATE_SURVIVES] = {"STATE_SURVIVES", "the term obeyed is forgotten at a restart (I3)"},
	[WORLD_RULE_FSYNC] = {"FSYNC", "the state file is written without fsync (I3)"},
	[WORLD_RULE_DRIFT] = {"DRIFT", "clocks drift further than the margin allows"},
	[WORLD_RULE_CLOCK_RUNS] = {"CLOCK_RUNS", "the clock stands still while a machine is paused (S16)"},
	[WORLD_RULE_GATE_CHECKED_TWICE] = {"GATE_CHECKED_TWICE", "the gate is not looked at after the flush (I6)"},
};

/* Does this seed's story go well when every rule holds? */
static bool
is_fine_unbroken(uint64_t seed)
{
	ElectorRule rule = elector_broken_rule;
	int			world_rule = world_broken_rule;
	bool		fine;

	elector_broken_rule = ELECTOR_RULES;
	world_broken_rule = WORLD_RULES;
	world_run(&world, seed, NULL, 0, TRACING_OFF);
	fine = !world.violation.found;
	world_free(&world);
	elector_broken_rule = rule;
	world_broken_rule = world_rule;
	return fine;
}

/* Where only one kind of trouble shows it, all worlds are about that. */
static int
theme_of(const char *name)
{
	static const struct
	{
		const char *name;
		Theme		theme;
	}			hints[] = {
		{"MARGIN", THEME_LEASE},
		{"DEADLINE_FROM_SENDING", THEME_LEASE},
		{"CONFIRM_RENEWAL", THEME_LEASE},
		{"PROMOTION_OF_THIS_TERM", THEME_ELECTION},
		{"TAKE_UNDER_LOCK", THEME_ELECTION},
		{"OPEN_UNFENCED", THEME_MEDDLING},
		{"ALLOTTED_WHEN_WON", THEME_MEDDLING},
		{"STRAY_AT_START", THEME_MEDDLING},
		{"TERM_AT_UPSTREAM", THEME_ELECTION},
		{"SAME_DIRECTORY", THEME_MEDDLING},
		{"RELEASE_OWN_KEY", THEME_HANDOVER},
		{"PAST_LAST_RECORD", THEME_HANDOVER},
		{"PAUSE_HOLDS", THEME_HANDOVER},
		{"HELD_STAYS", THEME_HANDOVER},
		{"COMMITS_FOUND", THEME_DURABILITY},
		{"AHEAD_IS_ABSENT", THEME_DURABILITY},
		{"BOTH_RULES", THEME_DURABILITY},
		{"OPENED_LAST", THEME_DURABILITY},
		{"TWO_PHASES", THEME_DURABILITY},
		{"FLUSHED_BEFORE_DROPPING", THEME_DURABILITY},
		{"FLUSHED_BEFORE_OPENING", THEME_DURABILITY},
		{"NAMES_BEFORE_PROMOTING", THEME_DURABILITY},
		{"ALL_PROMISE", THEME_FAILSAFE},
		{"PROMISE_FROM_ASKING", THEME_FAILSAFE},
		{"PROMISE_MARGIN", THEME_FAILSAFE},
		{"PROMISE_KEPT", THEME_FAILSAFE},
		{"PROMISE_SURVIVES", THEME_FAILSAFE},
		{"PROMISE_OF_THIS_TERM", THEME_FAILSAFE},
		{"PROMISERS_FENCED", THEME_FAILSAFE},
		{"ON_RECORD", THEME_FAILSAFE},
		{"SAME_PROMISER", THEME_FAILSAFE},
		{"RETAKEN_ALONE", THEME_FAILSAFE},
		{"ASK_BOTH", THEME_FAILSAFE},
		{"PROMISERS_INTERSECT", THEME_FAILSAFE},
		{"PROMISE_BOTH_RULES", THEME_FAILSAFE},
	};

	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
	{
		if (strcmp(hints[i].name, name) == 0)
			return hints[i].theme;
	}
	return THEMES;
}

/* Seldom shown: these need more seeds than a test has time for. */
static bool
is_rare(const char *name)
{
	const char *const rare[] = {"PROMOTION_OF_THIS_TERM", "ALLOTTED_WHEN_WON", "OPEN_UNFENCED",
	"STRAY_AT_START", "TERM_AT_UPSTREAM", "WHOLE_WORD",
	"FENCE_TOKEN", "SEE_OWN_WRITES"};

	for (size_t i = 0; i < sizeof(rare) / sizeof(rare[0]); i++)
	{
		if (strcmp(rare[i], name) == 0)
			return true;
	}
	return false;
}

static bool
try_rule(const Options *options, const Negative *negative)
{
	Options		some = *options;
	Found		all;
	double		began = seconds_now();

	some.seeds = options->limit;
	if (options->theme == NULL)
		world_theme = world_only_loss ? THEME_DURABILITY : theme_of(negative->name);
	run_jobs(&some, &all);
	if (all.found && !is_fine_unbroken(all.seed))
	{
		printf("not ok - %s: seed %llu breaks %s although every rule holds\n", negative->name,
			   (unsigned long long) all.seed, all.violation.invariant);
		return false;
	}
	if (all.found)
		printf("ok - found %-26s seed %-6llu %s  %s\n", negative->name,
			   (unsigned long long) all.seed, all.violation.invariant, negative->sentence);
	else
		printf("not ok - %s not found within %lld seeds (%.0f s): %s\n", negative->name,
			   (long long) options->limit, seconds_now() - began, negative->sentence);
	fflush(stdout);
	return all.found;
}

static int
run_negatives(const Options *options)
{
	int			missed = 0;
	int			count = 0;

	for (int i = 0; i < ELECTOR_RULES; i++)
	{
		if (options->rule != NULL ? strcmp(options->rule, core_rules[i].name) != 0 :
			is_rare(core_rules[i].name) && !options->rare)
			continue;
		elector_broken_rule = (ElectorRule) i;
		count++;
		missed += !try_rule(options, &core_rules[i]);
	}
	elector_broken_rule = ELECTOR_RULES;
	for (int i = 0; i < WORLD_RULES; i++)
	{
		if (options->rule != NULL ? strcmp(options->rule, world_rules[i].name) != 0 :
			is_rare(world_rules[i].name) && !options->rare)
			continue;
		world_broken_rule = i;
		count++;
		missed += !try_rule(options, &world_rules[i]);
	}
	world_broken_rule = WORLD_RULES;
	printf("1..%d\n", count);
	return missed > 0 ? 1 : 0;
}

/* Look at one seed with one rule broken. */
static void
break_rule(const char *name)
{
	for (int i = 0; i < ELECTOR_RULES; i++)
	{
		if (strcmp(name, core_rules[i].name) == 0)
			elector_broken_rule = (ElectorRule) i;
	}
	for (int i = 0; i < WORLD_RULES; i++)
	{
		if (strcmp(name, world_rules[i].name) == 0)
			world_broken_rule = i;
	}
}

#else

static int
run_negatives(const Options *options)
{
	(void) options;
	fprintf(stderr, "this program's rules cannot be broken; see the Makefile\n");
	return 2;
}

static void
break_rule(const char *name)
{
	(void) name;
}

#endif

int
main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"from", required_argument, NULL, 'f'},
		{"seeds", required_argument, NULL, 'n'},
		{"seconds", required_argument, NULL, 's'},
		{"jobs", required_argument, NULL, 'j'},
		{"seed", required_argument, NULL, '1'},
		{"tap", no_argument, NULL, 'p'},
		{"trace", no_argument, NULL, 't'},
		{"shrink", no_argument, NULL, 'k'},
		{"negatives", no_argument, NULL, 'N'},
		{"rule", required_argument, NULL, 'r'},
		{"limit", required_argument, NULL, 'l'},
		{"rare", no_argument, NULL, 'R'},
		{"theme", required_argument, NULL, 'm'},
		{"lost", no_argument, NULL, 'o'},
		{NULL, 0, NULL, 0}
	};
	Options		options = {.from = 1,.seeds = 1000,.jobs = 1,.limit = 20000};
	int			option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
	{
		switch (option)
		{
			case 'f':
				options.from = strtoull(optarg, NULL, 10);
				break;
			case 'n':
				options.seeds = strtoll(optarg, NULL, 10);
				break;
			case 's':
				options.seconds = strtoll(optarg, NULL, 10);
				options.seeds = 0;
				break;
			case 'j':
				options.jobs = atoi(optarg);
				break;
			case '1':
				options.from = strtoull(optarg, NULL, 10);
				options.one = true;
				break;
			case 'p':
				options.tap = true;
				break;
			case 't':
				options.trace = true;
				break;
			case 'k':
				options.shrink = true;
				break;
			case 'N':
				options.negatives = true;
				break;
			case 'r':
				options.rule = optarg;
				break;
			case 'R':
				options.rare = true;
				break;
			case 'm':
				options.theme = optarg;
				break;
			case 'o':
				world_only_loss = true;
				break;
			case 'l':
				options.limit = strtoll(optarg, NULL, 10);
				break;
			default:
				fprintf(stderr, "see the head of test/sim/main.c for the options\n");
				return 2;
		}
	}
	if (options.jobs < 1 || options.jobs > JOBS_MAX || optind < argc)
	{
		fprintf(stderr, "--jobs is a number from 1 to %d, and there are no arguments but options\n",
				JOBS_MAX);
		return 2;
	}
	promises_register();
	if (options.rule != NULL && options.one)
		break_rule(options.rule);
	if (options.theme != NULL)
		world_theme = atoi(options.theme);
	if (options.one)
		return tell_one(&options, options.from);
	return options.negatives ? run_negatives(&options) : run_worlds(&options);
}
