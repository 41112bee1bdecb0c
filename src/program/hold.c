/*
 * hold.c
 *	  What is the node's own, kept while its data directory is rewound or cloned.
 *
 * pg_rewind and pg_basebackup bring the whole data directory of the source
 * along: its configuration, its logs, its pg_elector/.  So everything at the top
 * of the data directory that is not PostgreSQL's goes into the hold, by rename,
 * so that owner, times and all stay as they are.  For the time being small
 * copies take its place: if the power fails now, the next postmaster finds its
 * configuration, loads the library, and that finds the hold.
 *
 *	   list			names of the node's own entries
 *	   own/			those entries
 *	   new/			copies being made
 *	   slots/		physical replication slots
 *	   todo			the work, since pg_elector/todo may be the source's now
 *	   control		the control file as it was before a rewind
 *	   rewinding	mark: pg_rewind may have changed something
 *	   clone/		a base backup
 *	   clone.control	its control file, to be put in place at the end
 *	   cloned		mark: it is complete, and takes the data directory's place
 *	   old/			what it replaced
 *	   done			mark: the data directory is whole; put own/ back
 *
 * Every step can be taken again after it was cut off in the middle.
 */
#include "program.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

/* Configuration is small; what is more than this is left out of the copies. */
#define COPIES_BUDGET	(16 * 1024 * 1024)

/* A slot's state file is a fraction of this. */
#define SLOT_SIZE		(16 * 1024)

/* Names of files, NUL-terminated each. */
#define LIST_SIZE		(256 * 1024)

/* PostgreSQL's own, besides the folders that begin with pg_. */
static const char *const postgres_names[] = {
	"PG_VERSION", "base", "global", "backup_label", "backup_label.old",
	"backup_manifest", "tablespace_map", "tablespace_map.old", "standby.signal",
	"recovery.signal", "postmaster.pid", "postmaster.opts", "current_logfiles",
	"current_logfiles.tmp", "postgresql.auto.conf.tmp", "lost+found"
};

/* Folders that are the node's own, but too large, or too useless, to copy. */
static bool
is_log(const char *name)
{
	return strcmp(name, "log") == 0 || strcmp(name, "pg_log") == 0;
}

/* Of a server that ran there, and nothing for another node to begin with? */
bool
elector_is_of_run(const char *name)
{
	return strcmp(name, ELECTOR_DIRECTORY) == 0 || is_log(name);
}

/* Is that entry of a data directory the node's own, and not PostgreSQL's? */
bool
elector_is_own(const char *directory, const char *name)
{
	char	   *path = psprintf("%s/%s", directory, name);
	struct stat st;
	bool		there = lstat(path, &st) == 0;

	pg_free(path);
	if (!there || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)))
		return false;
	for (size_t i = 0; i < lengthof(postgres_names); i++)
	{
		if (strcmp(name, postgres_names[i]) == 0)
			return false;
	}
	if (strcmp(name, &ELECTOR_HOLD_WITHIN[1]) == 0)
		return false;
	if (elector_is_of_run(name))
		return true;
	return S_ISREG(st.st_mode) || strncmp(name, "pg_", 3) != 0;
}

void
elector_hold_find(ElectorHold *hold, const char *data_directory)
{
	static const char *const places[] = {ELECTOR_HOLD_BESIDE, ELECTOR_HOLD_WITHIN};

	hold->data_directory = data_directory;
	hold->path = NULL;
	for (size_t i = 0; i < lengthof(places) && hold->path == NULL; i++)
	{
		char	   *path = psprintf("%s%s", data_directory, places[i]);

		if (elector_disk_exists(path))
			hold->path = path;
		else
			pg_free(path);
	}
}

/* Can a file of the data directory be renamed into a folder beside it? */
static bool
beside_works(const char *data_directory, const char *path)
{
	char	   *here = psprintf("%s/pg_elector.probe", data_directory);
	char	   *there = psprintf("%s/probe", path);
	bool		works = false;
	FILE	   *probe;

	if (mkdir(path, S_IRWXU) == 0)
	{
		probe = fopen(here, "w");
		if (probe)
		{
			fclose(probe);
			works = rename(here, there) == 0;
		}
		unlink(here);
		unlink(there);
		rmdir(path);
	}
	pg_free(here);
	pg_free(there);
	return works;
}

/* Make the hold, unless there is one, and leave the work to be done in it. */
bool
elector_hold_create(ElectorHold *hold, const ElectorTodo *todo)
{
	char		text[ELECTOR_FILE_SIZE];
	int			length = elector_todo_format(todo, text, sizeof(text));

	if (hold->path == NULL)
	{
		char	   *beside = psprintf("%s%s", hold->data_directory, ELECTOR_HOLD_BESIDE);

		if (beside_works(hold->data_directory, beside))
			hold->path = beside;
		else
			hold->path = psprintf("%s%s", hold->data_directory, ELECTOR_HOLD_WITHIN);
	}
	return length > 0 && elector_disk_make(hold->path) &&
		elector_disk_write(elector_hold_file(hold, "todo"), text, length);
}

char	   *
elector_hold_file(const ElectorHold *hold, const char *name)
{
	return psprintf("%s/%s", hold->path, name);
}

/* The work that the hold was made for.  False if that is not known. */
bool
elector_hold_todo(const ElectorHold *hold, ElectorTodo *todo)
{
	char	   *text = elector_disk_read(elector_hold_file(hold, "todo"),
										 ELECTOR_FILE_SIZE, NULL);
	bool		ok = text != NULL && elector_todo_parse(text, todo);

	pg_free(text);
	return ok;
}

bool
elector_hold_mark(const ElectorHold *hold, const char *mark)
{
	return elector_disk_write(elector_hold_file(hold, mark), "", 0);
}

bool
elector_hold_unmark(const ElectorHold *hold, const char *mark)
{
	return elector_disk_remove(elector_hold_file(hold, mark));
}

bool
elector_hold_marked(const ElectorHold *hold, const char *mark)
{
	return hold->path && elector_disk_exists(elector_hold_file(hold, mark));
}

/* Another file system is mounted there, so that it cannot be renamed. */
static bool
is_mount_point(const char *directory, const char *path)
{
	struct stat st;
	struct stat entry;

	return stat(directory, &st) == 0 && lstat(path, &entry) == 0 &&
		st.st_dev != entry.st_dev;
}

static bool
write_list(const ElectorHold *hold, char **names)
{
	char	   *list = pg_malloc(LIST_SIZE);
	size_t		length = 0;
	bool		ok = true;

	for (int i = 0; names[i] != NULL && ok; i++)
	{
		size_t		size = strlen(names[i]) + 1;

		if (!elector_is_own(hold->data_directory, names[i]))
			continue;
		ok = length + size <= LIST_SIZE;
		if (ok)
			memcpy(list + length, names[i], size);
		length += size;
	}
	if (!ok)
		elector_log(ELECTOR_WARNING, "too many files in data directory \"%s\" are not PostgreSQL's",
					hold->data_directory);
	ok = ok && elector_disk_write(elector_hold_file(hold, "list"), list, length);
	pg_free(list);
	return ok;
}

static bool
lies_within(const char *directory, const char *path)
{
	char	   *real_directory = realpath(directory, NULL);
	char	   *real_path = realpath(path, NULL);
	bool		within = path_is_prefix_of_path(directory, path) ||
	(real_directory && real_path && path_is_prefix_of_path(real_directory, real_path));

	free(real_directory);
	free(real_path);
	return within;
}

/*
 * Where a tablespace lies in the data directory, its folder looks like one of the
 * node's own: what pg_rewind brings there would be lost when that is put back.
 * Tells which, or NULL if there is none.  Those that are not links are
 * PostgreSQL's, and rewound with it.
 */
char	   *
elector_hold_tablespace_within(const char *data_directory)
{
	char	   *directory = psprintf("%s/pg_tblspc", data_directory);
	char	  **names = elector_disk_names(directory);
	char	   *found = NULL;

	for (int i = 0; names != NULL && names[i] != NULL && found == NULL; i++)
	{
		char	   *link = psprintf("%s/%s", directory, names[i]);
		char		target[MAXPGPATH];
		ssize_t		length = readlink(link, target, sizeof(target) - 1);

		pg_free(link);
		if (length < 0)
			continue;
		target[length] = '\0';
		canonicalize_path(target);
		if (lies_within(data_directory, target))
			found = pg_strdup(target);
	}
	if (names)
		pgfnames_cleanup(names);
	pg_free(directory);
	return found;
}

/* Take everything of the node's own out of the data directory. */
bool
elector_hold_take_own(const ElectorHold *hold)
{
	char	  **names = elector_disk_names(hold->data_directory);
	int64		budget = COPIES_BUDGET;
	bool		ok = names != NULL && write_list(hold, names) &&
	elector_disk_make(elector_hold_file(hold, "own")) &&
	elector_disk_make(elector_hold_file(hold, "new"));

	for (int i = 0; ok && names[i] != NULL; i++)
	{
		char	   *here = psprintf("%s/%s", hold->data_directory, names[i]);
		char	   *kept = psprintf("%s/own/%s", hold->path, names[i]);
		char	   *copy = psprintf("%s/new/%s", hold->path, names[i]);

		if (!elector_is_own(hold->data_directory, names[i]) ||
			is_mount_point(hold->data_directory, here))
			continue;
		if (!is_log(names[i]))
			ok = elector_disk_copy(here, copy, &budget);
		ok = ok && elector_disk_rename(here, kept);
		if (ok && elector_disk_exists(copy))
			ok = elector_disk_rename(copy, here);
	}
	if (names)
		pgfnames_cleanup(names);
	return ok;
}

static bool
listed(const char *list, size_t length, const char *name)
{
	for (size_t at = 0; at < length; at += strlen(list + at) + 1)
	{
		if (strcmp(list + at, name) == 0)
			return true;
	}
	return false;
}

/*
 * Put everything of the node's own back, and remove what the source has brought
 * of its own.  Nothing to do if nothing was taken.
 */
bool
elector_hold_give_back(const ElectorHold *hold)
{
	size_t		length = 0;
	char	   *list = elector_disk_read(elector_hold_file(hold, "list"), LIST_SIZE, &length);
	char	  **names;
	bool		ok = true;

	if (list == NULL)
		return true;
	for (size_t at = 0; ok && at < length; at += strlen(list + at) + 1)
	{
		char	   *kept = psprintf("%s/own/%s", hold->path, list + at);
		char	   *here = psprintf("%s/%s", hold->data_directory, list + at);
		struct stat st;

		if (!elector_disk_exists(kept))
			continue;

		/* a file takes a file's place at once, all else needs the place free */
		if (lstat(here, &st) == 0 && (S_ISDIR(st.st_mode) ||
									  (lstat(kept, &st) == 0 && S_ISDIR(st.st_mode))))
			ok = elector_disk_remove_tree(here);
		ok = ok && elector_disk_rename(kept, here);
	}

	names = ok ? elector_disk_names(hold->data_directory) : NULL;
	ok = names != NULL;
	for (int i = 0; ok && names[i] != NULL; i++)
	{
		if (elector_is_own(hold->data_directory, names[i]) && !listed(list, length, names[i]))
			ok = elector_disk_remove_tree(psprintf("%s/%s", hold->data_directory, names[i]));
	}
	if (names)
		pgfnames_cleanup(names);
	pg_free(list);
	return ok;
}

/* As slot.c writes it, since there are slots; the field behind the name. */
#define SLOT_MAGIC		0x1051CA1
#define SLOT_DATABASE	(4 * sizeof(uint32) + NAMEDATALEN)

/* Is it a physical replication slot?  Those have no database. */
static bool
is_physical_slot(const char *path)
{
	size_t		length;
	char	   *state = elector_disk_read(psprintf("%s/state", path), SLOT_SIZE, &length);
	uint32		magic = 0;
	Oid			database = InvalidOid;
	bool		whole = state != NULL && length >= SLOT_DATABASE + sizeof(database);

	if (whole)
	{
		memcpy(&magic, state, sizeof(magic));
		memcpy(&database, state + SLOT_DATABASE, sizeof(database));
	}
	pg_free(state);
	return whole && magic == SLOT_MAGIC && database == InvalidOid;
}

/*
 * Copy the physical replication slots, which pg_rewind and pg_basebackup remove.
 * The others still need the WAL that they keep, which comes from the source, and
 * nobody else can say how much.  What a logical one has decoded is undone.
 */
static bool
copy_slots(const char *from, const char *to)
{
	char	  **names = elector_disk_names(from);
	bool		ok = names != NULL;

	for (int i = 0; ok && names[i] != NULL; i++)
	{
		char	   *source = psprintf("%s/%s", from, names[i]);
		char	   *target = psprintf("%s/%s", to, names[i]);
		char	   *copy = psprintf("%s.tmp", target);	/* as PostgreSQL's own */

		if (is_physical_slot(source) && !elector_disk_exists(target))
			ok = elector_disk_remove_tree(copy) && elector_disk_copy(source, copy, NULL) &&
				elector_disk_rename(copy, target);
	}
	if (names)
		pgfnames_cleanup(names);
	return ok;
}

bool
elector_hold_take_slots(const ElectorHold *hold)
{
	char	   *slots = elector_hold_file(hold, "slots");

	return elector_disk_exists(slots) ||
		(elector_disk_make(slots) &&
		 copy_slots(psprintf("%s/pg_replslot", hold->data_directory), slots));
}

bool
elector_hold_give_slots(const ElectorHold *hold)
{
	char	   *slots = elector_hold_file(hold, "slots");

	return !elector_disk_exists(slots) ||
		copy_slots(slots, psprintf("%s/pg_replslot", hold->data_directory));
}

/*
 * Remove the hold.  The mark that everything is done goes last, so that one
 * that is left over after a power cut does not look like work cut off, which
 * would be undone.
 */
bool
elector_hold_remove(ElectorHold *hold)
{
	bool		ok = elector_hold_unmark(hold, ELECTOR_HOLD_REWINDING) &&
	elector_hold_unmark(hold, ELECTOR_HOLD_CLONED) &&
	elector_disk_remove(elector_hold_file(hold, "control")) &&
	elector_disk_remove(elector_hold_file(hold, "list")) &&
	elector_disk_remove_tree(elector_hold_file(hold, "own")) &&
	elector_disk_remove_tree(elector_hold_file(hold, "old")) &&
	elector_disk_remove_tree(elector_hold_file(hold, "clone")) &&
	elector_disk_remove_tree(hold->path);

	if (ok)
		hold->path = NULL;
	return ok;
}
