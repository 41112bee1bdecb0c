/*
 * clone.c
 *	  Replace a data directory by a base backup of the leader's.
 *
 * The backup is made in the hold, so the old data stays until the new is
 * complete; that takes the space of both.  Then the contents are exchanged,
 * entry by entry, not the directory itself, which may be a mount point.  All
 * that time both control files are spoiled, and the good one comes last.
 *
 * The node's own files are not touched, except when a rewind that failed before
 * has put them into the hold.  A new node (join.c) has none, and begins with a copy
 * of the source's, made its own before the clone takes the data directory's place.
 *
 * Not done: tablespaces.  pg_basebackup refuses their folders, since the old
 * data is in them.
 */
#include "program.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/file_utils.h"

#define SAYS_PROGRESS	" kB ("
#define SAYS_ERROR		"error: "

/* What an old data directory may have and a backup need not. */
static const char *const stale_names[] = {
	"backup_label", "backup_label.old", "backup_manifest", "tablespace_map",
	"tablespace_map.old", "standby.signal", "recovery.signal", "postmaster.opts",
	"current_logfiles"
};

static bool
watch_line(void *arg, pid_t pid, const char *line)
{
	ElectorRejoin *rejoin = arg;
	const char *error = strstr(line, SAYS_ERROR);

	if (error)
		snprintf(rejoin->problem, sizeof(rejoin->problem), "pg_basebackup: %s",
				 error + strlen(SAYS_ERROR));
	if (strstr(line, SAYS_PROGRESS) == NULL)
		return false;

	/* somebody watches */
	if (rejoin->new_node)
		fprintf(stderr, isatty(2) ? "%s\r" : "%s\n", line);
	return true;
}

static bool
back_up(ElectorRejoin *rejoin, const ElectorSource *source, const char *clone)
{
	char	   *argv[] = {
		psprintf("%s/pg_basebackup", rejoin->program->bin_directory),
		psprintf("--pgdata=%s", clone),
		psprintf("--dbname=%s", source->conninfo),
		"--wal-method=stream", "--checkpoint=fast", "--progress", "--verbose", "--no-password",
		rejoin->slot ? psprintf("--slot=%s", rejoin->slot) : NULL,
	rejoin->make_slot ? "--create-slot" : NULL, NULL};
	ElectorChild child = {.name = "pg_basebackup",.argv = argv,.password = source->password,
	.stoppable = true,.line = watch_line,.arg = rejoin};

	return elector_disk_remove_tree(clone) && elector_child_run(&child);
}

/* Remove from the backup what is the source's own, but for a new node's beginnings. */
static bool
remove_own(const ElectorRejoin *rejoin, const char *clone)
{
	char	  **names = elector_disk_names(clone);
	bool		ok = names != NULL;

	for (int i = 0; ok && names[i] != NULL; i++)
	{
		if (elector_is_own(clone, names[i]) &&
			(!rejoin->new_node || elector_is_of_run(names[i])))
			ok = elector_disk_remove_tree(psprintf("%s/%s", clone, names[i]));
	}
	if (names)
		pgfnames_cleanup(names);
	return ok;
}

/* Make the backup this node's, and spoil it until it is in place. */
static bool
dress(const ElectorRejoin *rejoin, const char *clone)
{
	const ElectorHold *hold = &rejoin->hold;
	ControlFileData control;

	return remove_own(rejoin, clone) && elector_control_read(clone, &control) &&
		elector_control_save(clone, elector_hold_file(hold, "clone.control")) &&
		elector_control_spoil(clone, &control) &&
		(!rejoin->new_node || rejoin->configure(rejoin->arg, clone));
}

static bool
remove_stale(const char *data_directory)
{
	bool		ok = true;

	for (size_t i = 0; ok && i < lengthof(stale_names); i++)
		ok = elector_disk_remove(psprintf("%s/%s", data_directory, stale_names[i]));
	return ok;
}

/* pg_wal is a link to another file system: exchange what it holds. */
static bool
replace_linked(const ElectorHold *hold, const char *here, const char *there)
{
	char	  **names = elector_disk_names(here);
	bool		ok = names != NULL;

	for (int i = 0; ok && names[i] != NULL; i++)
		ok = elector_disk_remove_tree(psprintf("%s/%s", here, names[i]));
	if (names)
		pgfnames_cleanup(names);

	names = ok ? elector_disk_names(there) : NULL;
	ok = names != NULL;
	for (int i = 0; ok && names[i] != NULL; i++)
		ok = elector_disk_copy(psprintf("%s/%s", there, names[i]),
							   psprintf("%s/%s", here, names[i]), NULL);
	if (names)
		pgfnames_cleanup(names);
	return ok && elector_disk_rename(there, psprintf("%s/old/%s.copied", hold->path,
													 last_dir_separator(there) + 1));
}

static bool
replace_entry(const ElectorHold *hold, const char *name)
{
	char	   *here = psprintf("%s/%s", hold->data_directory, name);
	char	   *there = psprintf("%s/clone/%s", hold->path, name);
	char	   *old = psprintf("%s/old/%s", hold->path, name);
	struct stat st;

	if (!elector_disk_exists(there))
		return true;
	if (lstat(here, &st) == 0)
	{
		if (S_ISLNK(st.st_mode) && stat(here, &st) == 0 && S_ISDIR(st.st_mode))
			return replace_linked(hold, here, there);
		if (!elector_disk_remove_tree(old) || !elector_disk_rename(here, old))
			return false;
	}
	return elector_disk_rename(there, here);
}

/*
 * Let the clone in the hold take the data directory's place.  global/ goes
 * first: from then on the control file is the clone's spoiled one.
 */
bool
elector_clone_replace(const ElectorHold *hold)
{
	char	   *clone = elector_hold_file(hold, "clone");
	char	  **names = NULL;
	bool		ok = elector_disk_make(elector_hold_file(hold, "old")) &&
	elector_disk_make(clone) && replace_entry(hold, "global");

	if (ok)
		names = elector_disk_names(clone);
	ok = names != NULL;
	for (int i = 0; ok && names[i] != NULL; i++)
		ok = replace_entry(hold, names[i]);
	if (names)
		pgfnames_cleanup(names);
	return ok &&
		elector_control_restore(hold->data_directory, elector_hold_file(hold, "clone.control")) &&
		elector_hold_mark(hold, ELECTOR_HOLD_DONE);
}

/* When done, the hold says so and has the rest. */
ElectorRejoinResult
elector_clone(ElectorRejoin *rejoin)
{
	ElectorHold *hold = &rejoin->hold;
	ElectorSource source;
	ControlFileData control;
	char	   *clone;

	if (!elector_source_parse(rejoin->todo.source, &source))
	{
		snprintf(rejoin->problem, sizeof(rejoin->problem),
				 "the connection string of the server to rejoin is not usable");
		return ELECTOR_REJOIN_NOT_NOW;
	}
	if (!elector_source_prepare(&source, rejoin->problem, sizeof(rejoin->problem)))
		return ELECTOR_REJOIN_NOT_NOW;
	if (!rejoin->new_node &&
		elector_control_read(rejoin->program->data_directory, &control) &&
		control.system_identifier != source.system)
	{
		snprintf(rejoin->problem, sizeof(rejoin->problem),
				 "the server to rejoin has another system identifier");
		return ELECTOR_REJOIN_NOT_NOW;
	}

	snprintf(rejoin->problem, sizeof(rejoin->problem), "pg_basebackup did not succeed");
	if (!elector_hold_create(hold, &rejoin->todo))
		return ELECTOR_REJOIN_NOT_NOW;
	clone = elector_hold_file(hold, "clone");
	elector_log(ELECTOR_LOG, "cloning the data directory from node \"%s\"", rejoin->todo.leader);
	if (!(rejoin->new_node || elector_hold_take_slots(hold)) ||
		!back_up(rejoin, &source, clone) || !dress(rejoin, clone) ||
		!remove_stale(hold->data_directory) ||
		!elector_hold_mark(hold, ELECTOR_HOLD_CLONED))
	{
		bool		stopped = elector_stop_requested();

		elector_disk_remove_tree(clone);
		if (!elector_hold_marked(hold, ELECTOR_HOLD_REWINDING))
			elector_hold_remove(hold);
		return stopped ? ELECTOR_REJOIN_STOPPED : ELECTOR_REJOIN_NOT_NOW;
	}
	if (elector_clone_replace(hold))
		return ELECTOR_REJOIN_DONE;
	snprintf(rejoin->problem, sizeof(rejoin->problem),
			 "could not put the clone in place of the data directory");
	return ELECTOR_REJOIN_TORN;
}
