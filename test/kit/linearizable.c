/*-------------------------------------------------------------------------
 *
 * linearizable.c
 *	  Does what clients were told of registers fit together?
 *
 *	  linearizable FILE...
 *
 * reads the logs of `client registers` (client/registers.c tells the format) and
 * prints a line for each register.  A history is linearizable if every operation
 * could have happened at one instant between question and answer, so that a single
 * register, 0 at first, would have given these answers.  One without an answer may
 * have happened at any time after the question, or never.  Exit status: 0 if all
 * are, 1 if one is not, 2 if the input cannot be used.
 *
 * The algorithm is that of Wing and Gong with Lowe's memory of what was tried: take,
 * of the operations that were asked before the first answer that is left, one that
 * fits the value; when none does, go back, and never again to the same set of
 * operations with the same value.
 *
 * What has no answer would make that exponential.  Two observations prevent it, since
 * every value is written once:
 *
 *	- If its value was seen, it happened, and before the answer of who saw it.
 *	- If it was not seen, it can only serve to have another value than the one that a
 *	  failed comparison did not find.  So it is tried where one of these is stuck, and
 *	  of several writes only the one that was asked first: any other could change
 *	  places with it.
 *
 * The trap: a set that was tried is remembered by 128 bits that stand for it, not by
 * the set.
 *
 *-------------------------------------------------------------------------
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How many sets are remembered before a history is given up as undecided. */
#define MEMORY_MAX (64 * 1024 * 1024)

#define NEVER INT64_MAX

/* What is shown of a history that does not fit. */
#define SHOWN 12

typedef enum Kind
{
	KIND_READ,
	KIND_WRITE,
	KIND_CAS,					/* it was the old value */
	KIND_CAS_NOT				/* it was not */
} Kind;

typedef struct Op
{
	int			reg;
	Kind		kind;
	int64_t		asked;
	int64_t		answered;		/* NEVER: nobody knows whether it happened */
	int64_t		old;			/* read, or compared with */
	int64_t		new;			/* written */
	int			client;
	bool		optional;		/* need not have happened */
	uint64_t	hash[2];
} Op;

/* A question or an answer, in the list of what is left. */
typedef struct Event
{
	int			op;
	bool		answer;
	int64_t		at;
	int			next;
	int			previous;
} Event;

/* An operation that was taken, and the value before it. */
typedef struct Step
{
	int			event;			/* of its question; -1: it is an optional one */
	int			optional;		/* index among those */
	int64_t		value;
} Step;

typedef struct Search
{
	Op		   *ops;
	int			nops;
	Event	   *events;			/* [0] is the head of the list */
	int			nevents;
	int		   *answer_of;		/* of an operation: its event */
	int		   *question_of;
	int		   *optional;		/* operations, by time of the question */
	bool	   *used;
	int			noptional;
	Step	   *steps;
	int			nsteps;
	int			left;			/* answers that are left */
	int64_t		value;
	uint64_t	hash[2];

	/* what was tried */
	uint64_t	(*memory)[2];
	size_t		size;
	size_t		count;
	bool		full;

	/* for who has to find out */
	int		   *deepest;
	int			ndeepest;
	int			stuck;
	int64_t		stuck_value;
} Search;

static void *
allocate(size_t size)
{
	void	   *memory = calloc(1, size > 0 ? size : 1);

	if (memory == NULL)
	{
		fprintf(stderr, "out of memory\n");
		exit(2);
	}
	return memory;
}

static uint64_t
scramble(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/*
 * What was tried
 */
static void remember(Search *search, uint64_t a, uint64_t b);

static void
grow_memory(Search *search)
{
	uint64_t	(*old)[2] = search->memory;
	size_t		size = search->size;

	search->size = size == 0 ? 4096 : size * 2;
	search->memory = allocate(search->size * sizeof(*search->memory));
	search->count = 0;
	for (size_t i = 0; i < size; i++)
	{
		if (old[i][0] != 0)
			remember(search, old[i][0], old[i][1]);
	}
	free(old);
}

static void
remember(Search *search, uint64_t a, uint64_t b)
{
	size_t		i = a & (search->size - 1);

	while (search->memory[i][0] != 0)
		i = (i + 1) & (search->size - 1);
	search->memory[i][0] = a;
	search->memory[i][1] = b;
	search->count++;
}

/* Is it new that this operation is taken now, which leaves that value? */
static bool
is_new(Search *search, const Op *op, int64_t value)
{
	uint64_t	a = search->hash[0] ^ op->hash[0] ^ scramble((uint64_t) value);
	uint64_t	b = search->hash[1] ^ op->hash[1] ^ scramble(~(uint64_t) value);

	a |= a == 0;
	if (search->count * 2 >= search->size)
		grow_memory(search);
	for (size_t i = a & (search->size - 1); search->memory[i][0] != 0;
		 i = (i + 1) & (search->size - 1))
	{
		if (search->memory[i][0] == a && search->memory[i][1] == b)
			return false;
	}
	if (search->count >= MEMORY_MAX)
	{
		search->full = true;
		return false;
	}
	remember(search, a, b);
	return true;
}

/*
 * The search
 */
static bool
fits(const Op *op, int64_t value)
{
	switch (op->kind)
	{
		case KIND_READ:
		case KIND_CAS:
			return value == op->old;
		case KIND_CAS_NOT:
			return value != op->old;
		case KIND_WRITE:
			return true;
	}
	return false;
}

static bool
changes(const Op *op)
{
	return op->kind == KIND_WRITE || op->kind == KIND_CAS;
}

static int64_t
value_after(const Op *op, int64_t value)
{
	return changes(op) ? op->new : value;
}

static void
unlink_event(Search *search, int event)
{
	search->events[search->events[event].previous].next = search->events[event].next;
	if (search->events[event].next >= 0)
		search->events[search->events[event].next].previous = search->events[event].previous;
}

static void
link_event(Search *search, int event)
{
	search->events[search->events[event].previous].next = event;
	if (search->events[event].next >= 0)
		search->events[search->events[event].next].previous = event;
}

static void
take(Search *search, int event, int optional)
{
	int			number = event >= 0 ? search->events[event].op : search->optional[optional];
	Op		   *op = &search->ops[number];
	Step	   *step = &search->steps[search->nsteps++];

	step->event = event;
	step->optional = optional;
	step->value = search->value;
	search->value = value_after(op, search->value);
	search->hash[0] ^= op->hash[0];
	search->hash[1] ^= op->hash[1];
	if (event >= 0)
	{
		unlink_event(search, search->question_of[number]);
		unlink_event(search, search->answer_of[number]);
		search->left--;
	}
	else
		search->used[optional] = true;

	if (search->nsteps > search->ndeepest)
	{
		search->ndeepest = search->nsteps;
		for (int i = 0; i < SHOWN && i < search->nsteps; i++)
		{
			const Step *last = &search->steps[search->nsteps - 1 - i];

			search->deepest[i] = last->event >= 0 ? search->events[last->event].op :
				search->optional[last->optional];
		}
		search->stuck = -1;
	}
}

/* The last step is undone. */
static Step
take_back(Search *search)
{
	Step		step = search->steps[--search->nsteps];
	int			number = step.event >= 0 ? search->events[step.event].op : search->optional[step.optional];
	Op		   *op = &search->ops[number];

	if (step.event >= 0)
	{
		link_event(search, search->answer_of[number]);
		link_event(search, search->question_of[number]);
		search->left++;
	}
	else
		search->used[step.optional] = false;
	search->value = step.value;
	search->hash[0] ^= op->hash[0];
	search->hash[1] ^= op->hash[1];
	return step;
}

/*
 * Before the answer at which the search is stuck, is there a comparison that could
 * succeed in failing if only the value were another one?
 */
static bool
waits_for_another_value(const Search *search, int until)
{
	for (int i = search->events[0].next; i != until; i = search->events[i].next)
	{
		const Op   *op = &search->ops[search->events[i].op];

		if (op->kind == KIND_CAS_NOT && op->old == search->value)
			return true;
	}
	return false;
}

/* Try one of the operations that need not have happened, from that one on. */
static bool
take_optional(Search *search, int from, int until)
{
	bool		wrote = false;

	if (search->noptional == 0 || !waits_for_another_value(search, until))
		return false;
	for (int i = 0; i < search->noptional; i++)
	{
		const Op   *op = &search->ops[search->optional[i]];

		if (op->asked > search->events[until].at)
			break;
		if (search->used[i] || (op->kind == KIND_WRITE && wrote) || !fits(op, search->value))
			continue;
		wrote |= op->kind == KIND_WRITE;
		if (i >= from && is_new(search, op, value_after(op, search->value)))
		{
			take(search, -1, i);
			return true;
		}
	}
	return false;
}

static bool
search_order(Search *search)
{
	int			event = search->events[0].next;
	int			optional = 0;

	while (search->left > 0)
	{
		const Op   *op = &search->ops[search->events[event].op];
		Step		step;

		if (!search->events[event].answer)
		{
			if (fits(op, search->value) && is_new(search, op, value_after(op, search->value)))
			{
				take(search, event, -1);
				event = search->events[0].next;
				optional = 0;
			}
			else
				event = search->events[event].next;
			continue;
		}

		/* All that could come before this answer has been tried. */
		if (take_optional(search, optional, event))
		{
			event = search->events[0].next;
			optional = 0;
			continue;
		}
		if (search->nsteps == search->ndeepest && search->stuck < 0)
		{
			search->stuck = search->events[event].op;
			search->stuck_value = search->value;
		}
		if (search->full)
			return false;

		/* What fits and changes nothing is as well first as anywhere later. */
		do
		{
			if (search->nsteps == 0)
				return false;
			step = take_back(search);
		} while (step.event >= 0 && !changes(&search->ops[search->events[step.event].op]));
		if (step.event >= 0)
		{
			event = search->events[step.event].next;
			optional = 0;
		}
		else
		{
			for (event = search->events[0].next; !search->events[event].answer;
				 event = search->events[event].next)
				;
			optional = step.optional + 1;
		}
	}
	return true;
}

/*
 * Preparing
 */
static int
compare_events(const void *a, const void *b)
{
	const Event *left = a;
	const Event *right = b;

	if (left->at != right->at)
		return left->at < right->at ? -1 : 1;
	if (left->answer != right->answer)
		return left->answer ? 1 : -1;
	return (left->op > right->op) - (left->op < right->op);
}

static int
compare_ops(const void *a, const void *b)
{
	const Op   *left = a;
	const Op   *right = b;

	if (left->reg != right->reg)
		return left->reg < right->reg ? -1 : 1;
	return (left->asked > right->asked) - (left->asked < right->asked);
}

typedef struct Written
{
	int64_t		value;
	int			op;
} Written;

static int
compare_written(const void *a, const void *b)
{
	const Written *left = a;
	const Written *right = b;

	return (left->value > right->value) - (left->value < right->value);
}

/*
 * What nobody was told of happened after all if its value was seen, and then before
 * the answer of who saw it; as that may have been such an operation itself, until
 * nothing changes.
 */
static void
find_seen(Op *ops, int nops)
{
	Written    *written = allocate(sizeof(Written) * nops);
	int			nwritten = 0;
	bool		changed = true;

	for (int i = 0; i < nops; i++)
	{
		if (changes(&ops[i]))
			written[nwritten++] = (Written) {ops[i].new, i};
		ops[i].optional = ops[i].answered == NEVER;
	}
	qsort(written, nwritten, sizeof(Written), compare_written);
	for (int i = 1; i < nwritten; i++)
	{
		if (written[i].value == written[i - 1].value)
		{
			fprintf(stderr, "register %d: %" PRId64 " is written twice\n", ops[0].reg, written[i].value);
			exit(2);
		}
	}
	while (changed)
	{
		changed = false;
		for (int i = 0; i < nops; i++)
		{
			Written		key = {ops[i].old, 0};
			Written    *found;

			if (ops[i].optional || (ops[i].kind != KIND_READ && ops[i].kind != KIND_CAS))
				continue;
			found = bsearch(&key, written, nwritten, sizeof(Written), compare_written);
			if (found == NULL)
				continue;
			if (ops[found->op].optional ||
				(ops[found->op].answered > ops[i].answered && ops[found->op].client < 0))
			{
				/* client < 0 marks those whose answer was made up here */
				if (ops[found->op].optional)
					ops[found->op].client = -ops[found->op].client;
				ops[found->op].optional = false;
				ops[found->op].answered = ops[i].answered;
				changed = true;
			}
		}
	}
	free(written);
}

static void
prepare(Search *search, Op *ops, int nops)
{
	memset(search, 0, sizeof(*search));
	search->ops = ops;
	search->nops = nops;
	search->events = allocate(sizeof(Event) * (2 * nops + 1));
	search->answer_of = allocate(sizeof(int) * nops);
	search->question_of = allocate(sizeof(int) * nops);
	search->optional = allocate(sizeof(int) * nops);
	search->used = allocate(sizeof(bool) * nops);
	search->steps = allocate(sizeof(Step) * nops);
	search->deepest = allocate(sizeof(int) * SHOWN);
	search->stuck = -1;
	search->nevents = 1;
	grow_memory(search);

	for (int i = 0; i < nops; i++)
	{
		ops[i].hash[0] = scramble((uint64_t) i * 2 + 1);
		ops[i].hash[1] = scramble((uint64_t) i * 2 + UINT64_C(0x5bd1e995aabbccdd));
		if (ops[i].optional)
			search->optional[search->noptional++] = i;
		else
		{
			search->events[search->nevents++] = (Event) {i, false, ops[i].asked, 0, 0};
			search->events[search->nevents++] = (Event) {i, true, ops[i].answered, 0, 0};
			search->left++;
		}
	}
	qsort(search->events + 1, search->nevents - 1, sizeof(Event), compare_events);
	for (int i = 0; i < search->nevents; i++)
	{
		search->events[i].previous = i - 1;
		search->events[i].next = i + 1 < search->nevents ? i + 1 : -1;
		if (i > 0 && search->events[i].answer)
			search->answer_of[search->events[i].op] = i;
		else if (i > 0)
			search->question_of[search->events[i].op] = i;
	}
}

static void
finish(Search *search)
{
	free(search->events);
	free(search->answer_of);
	free(search->question_of);
	free(search->optional);
	free(search->used);
	free(search->steps);
	free(search->deepest);
	free(search->memory);
}

/*
 * Reading and telling
 */
static void
show(const char *what, const Op *op)
{
	printf("  %s client %d: ", what, op->client < 0 ? -op->client : op->client);
	switch (op->kind)
	{
		case KIND_READ:
			printf("read %" PRId64, op->old);
			break;
		case KIND_WRITE:
			printf("write %" PRId64, op->new);
			break;
		case KIND_CAS:
			printf("cas %" PRId64 " %" PRId64 " yes", op->old, op->new);
			break;
		case KIND_CAS_NOT:
			printf("cas %" PRId64 " %" PRId64 " no", op->old, op->new);
			break;
	}
	printf(", asked %" PRId64, op->asked);
	if (op->client < 0)
		printf(", without an answer, seen before %" PRId64 "\n", op->answered);
	else if (op->optional)
		printf(", without an answer\n");
	else
		printf(", answered %" PRId64 "\n", op->answered);
}

/* Is the history of one register linearizable? */
static bool
check_register(Op *ops, int nops)
{
	Search		search;
	int			unknown = 0;
	bool		good;

	for (int i = 0; i < nops; i++)
		unknown += ops[i].answered == NEVER;
	find_seen(ops, nops);
	prepare(&search, ops, nops);
	good = search_order(&search);
	printf("register %d: %d operations, %d without an answer: %s\n", ops[0].reg, nops, unknown,
		   good ? "linearizable" : search.full ? "undecided" : "NOT linearizable");
	if (!good)
	{
		int			shown = search.ndeepest < SHOWN ? search.ndeepest : SHOWN;

		for (int i = shown - 1; i >= 0; i--)
			show("then", &ops[search.deepest[i]]);
		if (search.stuck >= 0)
		{
			printf("  the value is then %" PRId64 "\n", search.stuck_value);
			show("no place for", &ops[search.stuck]);
		}
	}
	finish(&search);
	return good;
}

static bool
parse_line(const char *line, Op *op)
{
	char		answered[32];
	char		kind[8];
	char		outcome[8] = "";
	long long	asked;
	long long	first = 0;
	long long	second = 0;
	int			fields = sscanf(line, "%d %lld %31s %d %7s %lld %lld %7s", &op->reg, &asked, answered,
								&op->client, kind, &first, &second, outcome);

	if (fields < 6)
		return false;
	op->asked = asked;
	op->answered = strcmp(answered, "-") == 0 ? NEVER : strtoll(answered, NULL, 10);
	op->optional = false;
	op->old = first;
	op->new = second;
	if (strcmp(kind, "read") == 0 && fields == 6)
		op->kind = KIND_READ;
	else if (strcmp(kind, "write") == 0 && fields == 6)
	{
		op->kind = KIND_WRITE;
		op->new = first;
	}
	else if (strcmp(kind, "cas") == 0 && fields == 8)
		op->kind = strcmp(outcome, "no") == 0 ? KIND_CAS_NOT : KIND_CAS;
	else
		return false;
	return op->client > 0 && op->answered >= op->asked;
}

int
main(int argc, char **argv)
{
	Op		   *ops = NULL;
	int			nops = 0;
	int			size = 0;
	bool		good = true;

	if (argc < 2)
	{
		fprintf(stderr, "usage: linearizable FILE...\n");
		return 2;
	}
	for (int i = 1; i < argc; i++)
	{
		FILE	   *file = fopen(argv[i], "r");
		char		line[512];

		if (file == NULL)
		{
			perror(argv[i]);
			return 2;
		}
		while (fgets(line, sizeof(line), file) != NULL)
		{
			if (line[0] == '#' || line[0] == '\n')
				continue;
			if (nops == size)
			{
				size = size == 0 ? 1024 : size * 2;
				ops = realloc(ops, sizeof(Op) * size);
				if (ops == NULL)
					return 2;
			}
			if (!parse_line(line, &ops[nops++]))
			{
				fprintf(stderr, "%s: %s", argv[i], line);
				return 2;
			}
		}
		fclose(file);
	}
	qsort(ops, nops, sizeof(Op), compare_ops);
	for (int first = 0, next; first < nops; first = next)
	{
		for (next = first; next < nops && ops[next].reg == ops[first].reg; next++)
			;
		good &= check_register(&ops[first], next - first);
	}
	free(ops);
	return good ? 0 : 1;
}
