/*
 * rejoin.c
 *	  Do the work that was left for the time without a server: pg_elector/todo.
 *
 * The work is noted before the server stops for it and struck out when it is
 * done, so a power cut only means that the next start takes it up.  What was
 * cut off in the middle is known from the hold (hold.c).
 *
 * The trap is a note that stays: the server that we become would find it and
 * run us again, for ever.  So either it is gone when this returns, or the
 * process ends.
 *
 * A rewind that was cut off is never started on, nor taken up again: clone the
 * data directory, or refuse, and say so.
 */
#include "program.h"

#include <unistd.h>

#include "../core/decide.h"

/* Between two attempts to clone when there is nothing to go back to. */
#define RETRY_SECONDS	5

/* The server that we become must be a standby (I5). */
static bool
note_standby(const char *data_directory)
{
	char	   *path = psprintf("%s/standby.signal", data_directory);

	return elector_disk_exists(path) || elector_disk_write(path, "", 0);
}

static char *
node_file(const ElectorRejoin *rejoin, const char *name)
{
	return psprintf("%s/%s", rejoin->program->data_directory, name);
}

/* What the node remembers of itself is not all true of a clone. */
static bool
remember_clone(const ElectorRejoin *rejoin)
{
	char	   *path = node_file(rejoin, ELECTOR_STATE_FILE);
	char	   *text = elector_disk_read(path, ELECTOR_FILE_SIZE, NULL);
	char		changed[ELECTOR_FILE_SIZE];
	ElectorState state;
	int			length;

	if (text == NULL || !elector_state_parse(text, &state))
		return true;
	elector_state_clone(&state);
	length = elector_state_format(&state, changed, sizeof(changed));
	return length > 0 && elector_disk_write(path, changed, length);
}

/* The data directory is whole. */
static ElectorOutcome
finish(ElectorRejoin *rejoin)
{
	ElectorHold *hold = &rejoin->hold;
	bool		ok = elector_hold_give_back(hold) && elector_hold_give_slots(hold) &&
	(!elector_hold_marked(hold, ELECTOR_HOLD_CLONED) || remember_clone(rejoin)) &&
	note_standby(rejoin->program->data_directory) &&
	elector_disk_remove(node_file(rejoin, ELECTOR_PROBLEM_FILE)) &&
	elector_disk_remove(node_file(rejoin, ELECTOR_TODO_FILE)) &&
	elector_hold_remove(hold);

	if (!ok)
	{
		elector_log(ELECTOR_FATAL, "could not complete the data directory");
		elector_log_hint("Remove the cause, and start the server again.");
		return ELECTOR_FAIL;
	}
	elector_log(ELECTOR_LOG, "data directory is ready to follow");
	return ELECTOR_GO_ON;
}

/* The data directory is as it was: become a standby, and leave word why. */
static ElectorOutcome
give_up(ElectorRejoin *rejoin)
{
	elector_log(ELECTOR_WARNING, "could not rejoin node \"%s\": %s", rejoin->todo.leader,
				rejoin->problem);
	elector_log_detail("The data directory is as it was; the server starts as a standby.");
	strlcat(rejoin->problem, "\n", sizeof(rejoin->problem));
	if (!note_standby(rejoin->program->data_directory) ||
		!elector_disk_write(node_file(rejoin, ELECTOR_PROBLEM_FILE), rejoin->problem,
							strlen(rejoin->problem)) ||
		!elector_disk_remove(node_file(rejoin, ELECTOR_TODO_FILE)))
		return ELECTOR_FAIL;
	return ELECTOR_GO_ON;
}

static ElectorOutcome
refuse(const ElectorRejoin *rejoin)
{
	elector_log(ELECTOR_FATAL, "data directory \"%s\" was left half rewound and cannot be used",
				rejoin->program->data_directory);
	if (rejoin->problem[0])
		elector_log_detail("%s", rejoin->problem);
	elector_log_hint("Start the server with pg_elector.rejoin = 'clone' to have it replaced,"
					 " or replace it by a base backup and remove \"%s\","
					 " which holds the configuration of this node.", rejoin->hold.path);
	return ELECTOR_FAIL;
}

/* Who leads may have changed since the note was written. */
static void
look_for_leader(ElectorRejoin *rejoin)
{
	ElectorLeader leader;

	if (!elector_find_leader(rejoin->program, &leader))
		return;
	rejoin->todo.term = leader.term;
	strlcpy(rejoin->todo.leader, leader.node, sizeof(rejoin->todo.leader));
	strlcpy(rejoin->todo.source, leader.conninfo, sizeof(rejoin->todo.source));
}

/*
 * With a data directory in pieces there is no other way, so try until it works
 * or somebody wants the server to stop.
 */
static ElectorRejoinResult
clone_at_last(ElectorRejoin *rejoin)
{
	ElectorRejoinResult result;

	for (;;)
	{
		look_for_leader(rejoin);
		result = elector_clone(rejoin);
		if (result != ELECTOR_REJOIN_NOT_NOW && result != ELECTOR_REJOIN_CANNOT)
			return result;
		elector_log(ELECTOR_WARNING, "could not clone from node \"%s\": %s; trying again in %d seconds",
					rejoin->todo.leader, rejoin->problem, RETRY_SECONDS);
		for (int i = 0; i < RETRY_SECONDS * 10; i++)
		{
			if (elector_stop_requested())
				return ELECTOR_REJOIN_STOPPED;
			pg_usleep(100 * 1000L);
		}
	}
}

static ElectorOutcome
rewind_or_clone(ElectorRejoin *rejoin, bool torn)
{
	bool		may_clone = rejoin->program->rejoin == ELECTOR_REJOIN_CLONE ||
	rejoin->todo.kind == ELECTOR_TODO_CLONE;
	ElectorRejoinResult result = ELECTOR_REJOIN_TORN;

	if (!torn && rejoin->todo.kind == ELECTOR_TODO_REWIND)
	{
		elector_log(ELECTOR_LOG, "rewinding the data directory to rejoin node \"%s\"",
					rejoin->todo.leader);
		result = elector_rewind(rejoin);
		torn = result == ELECTOR_REJOIN_TORN;
	}
	if (torn && !may_clone)
		return refuse(rejoin);
	if (torn)
		result = clone_at_last(rejoin);
	else if (rejoin->todo.kind == ELECTOR_TODO_CLONE ||
			 (result == ELECTOR_REJOIN_CANNOT && may_clone))
	{
		if (rejoin->problem[0])
			elector_log(ELECTOR_LOG, "cannot rewind: %s", rejoin->problem);
		result = elector_clone(rejoin);
	}

	switch (result)
	{
		case ELECTOR_REJOIN_DONE:
			return finish(rejoin);
		case ELECTOR_REJOIN_NOT_NOW:
		case ELECTOR_REJOIN_CANNOT:
			return give_up(rejoin);
		case ELECTOR_REJOIN_TORN:
			elector_log(ELECTOR_FATAL, "could not rejoin: %s", rejoin->problem);
			return ELECTOR_FAIL;
		case ELECTOR_REJOIN_STOPPED:
			elector_log(ELECTOR_LOG, "the server was asked to stop; the next start takes up the work");
			return ELECTOR_STOP;
	}
	return ELECTOR_FAIL;
}

/* The note, if there is one for this node; a foreign one is removed. */
static bool
read_todo(ElectorRejoin *rejoin)
{
	char	   *path = node_file(rejoin, ELECTOR_TODO_FILE);
	char	   *text = elector_disk_read(path, ELECTOR_FILE_SIZE, NULL);

	memset(&rejoin->todo, 0, sizeof(rejoin->todo));
	if (text == NULL)
		return !elector_disk_exists(path) || elector_disk_remove(path);
	if (elector_todo_parse(text, &rejoin->todo) &&
		strcmp(rejoin->todo.node, rejoin->program->node) == 0)
		return true;

	/* copied along with the data directory */
	elector_log(ELECTOR_LOG, "file \"%s\" is not of this node, removing it", path);
	memset(&rejoin->todo, 0, sizeof(rejoin->todo));
	return elector_disk_remove(path);
}

ElectorOutcome
elector_rejoin(const ElectorProgram *program)
{
	ElectorRejoin rejoin = {.program = program};
	ElectorHold *hold = &rejoin.hold;
	ElectorOutcome outcome = ELECTOR_FAIL;
	bool		torn = false;

	elector_hold_find(hold, program->data_directory);
	if (hold->path == NULL)
	{
		if (!read_todo(&rejoin))
			return ELECTOR_FAIL;
		switch (rejoin.todo.kind)
		{
			case ELECTOR_TODO_NONE:
				return ELECTOR_GO_ON;
			case ELECTOR_TODO_STANDBY:
			case ELECTOR_TODO_HANDOVER:
				return elector_disk_remove(node_file(&rejoin, ELECTOR_TODO_FILE)) ?
					ELECTOR_GO_ON : ELECTOR_FAIL;
			case ELECTOR_TODO_REWIND:
			case ELECTOR_TODO_CLONE:
				break;
		}
	}

	if (!elector_pidfile_away(program->data_directory))
		return ELECTOR_FAIL;

	if (hold->path == NULL)
		outcome = ELECTOR_GO_ON;
	else if (elector_hold_marked(hold, ELECTOR_HOLD_DONE))
		return finish(&rejoin) == ELECTOR_GO_ON && elector_pidfile_back() ?
			ELECTOR_GO_ON : ELECTOR_FAIL;
	else if (elector_hold_marked(hold, ELECTOR_HOLD_CLONED))
		return elector_clone_replace(hold) && finish(&rejoin) == ELECTOR_GO_ON &&
			elector_pidfile_back() ? ELECTOR_GO_ON : ELECTOR_FAIL;
	else if (elector_hold_marked(hold, ELECTOR_HOLD_REWINDING))
	{
		torn = true;
		if (!elector_hold_todo(hold, &rejoin.todo))
			memset(&rejoin.todo, 0, sizeof(rejoin.todo));
		elector_log(ELECTOR_WARNING, "a rewind of this data directory was cut off");
		outcome = ELECTOR_GO_ON;
	}
	else
	{
		/* nothing was changed yet */
		if (elector_rewind_undo(hold) && read_todo(&rejoin))
			outcome = ELECTOR_GO_ON;
	}
	if (outcome == ELECTOR_GO_ON &&
		(torn || rejoin.todo.kind == ELECTOR_TODO_REWIND || rejoin.todo.kind == ELECTOR_TODO_CLONE))
	{
		if (!torn && program->rejoin == ELECTOR_REJOIN_OFF)
		{
			snprintf(rejoin.problem, sizeof(rejoin.problem), "pg_elector.rejoin is off");
			outcome = give_up(&rejoin);
		}
		else
			outcome = rewind_or_clone(&rejoin, torn);
	}
	if (outcome == ELECTOR_GO_ON && !elector_pidfile_back())
		outcome = ELECTOR_FAIL;
	return outcome;
}
