/*
 * control.c
 *	  The server's control file: whether it was shut down, and where.
 *
 * While a data directory is in pieces its control file is spoiled: the state
 * it shows is none that PostgreSQL knows, so that even a server without this
 * library (its configuration may be in pieces, too) ends with "control file
 * contains invalid database cluster state" instead of opening what is there.
 * A server with the library never comes as far.
 */
#include "program.h"

#include "common/controldata_utils.h"
#include "port/pg_crc32c.h"

#define SPOILED		((DBState) 99)

static char *
control_path(const char *directory)
{
	return psprintf("%s/global/pg_control", directory);
}

/* False, with a message, if there is none that is whole and of this version. */
bool
elector_control_read(const char *directory, ControlFileData *control)
{
	char	   *path = control_path(directory);
	size_t		length = 0;
	char	   *data = elector_disk_read(path, PG_CONTROL_FILE_SIZE, &length);
	pg_crc32c	crc;
	bool		ok = data != NULL && length >= sizeof(ControlFileData);

	memset(control, 0, sizeof(*control));
	if (ok)
	{
		memcpy(control, data, sizeof(*control));
		INIT_CRC32C(crc);
		COMP_CRC32C(crc, (char *) control, offsetof(ControlFileData, crc));
		FIN_CRC32C(crc);
		ok = EQ_CRC32C(crc, control->crc) &&
			control->pg_control_version == PG_CONTROL_VERSION;
	}
	if (!ok)
	{
		elector_log(ELECTOR_WARNING, "file \"%s\" is missing, damaged, or of another version", path);
		memset(control, 0, sizeof(*control));
	}
	pg_free(data);
	pg_free(path);
	return ok;
}

/* As pg_controldata says it. */
const char *
elector_control_state(const ControlFileData *control)
{
	switch (control->state)
	{
		case DB_STARTUP:
			return "starting up";
		case DB_SHUTDOWNED:
			return "shut down";
		case DB_SHUTDOWNED_IN_RECOVERY:
			return "shut down in recovery";
		case DB_SHUTDOWNING:
			return "shutting down";
		case DB_IN_CRASH_RECOVERY:
			return "in crash recovery";
		case DB_IN_ARCHIVE_RECOVERY:
			return "in archive recovery";
		case DB_IN_PRODUCTION:
			return "in production";
	}
	return "unrecognized status code";
}

bool
elector_control_spoiled(const ControlFileData *control)
{
	return control->state == SPOILED;
}

bool
elector_control_save(const char *directory, const char *copy)
{
	char	   *path = control_path(directory);
	size_t		length;
	char	   *data = elector_disk_read(path, PG_CONTROL_FILE_SIZE, &length);
	bool		ok = data != NULL && elector_disk_write(copy, data, length);

	pg_free(data);
	pg_free(path);
	return ok;
}

bool
elector_control_restore(const char *directory, const char *copy)
{
	char	   *path = control_path(directory);
	size_t		length;
	char	   *data = elector_disk_read(copy, PG_CONTROL_FILE_SIZE, &length);
	bool		ok = data != NULL && elector_disk_write(path, data, length);

	pg_free(data);
	pg_free(path);
	return ok;
}

/*
 * Spoil it, unless it has become another one than the caller has seen.  True
 * unless it could not be read.
 */
bool
elector_control_spoil(const char *directory, const ControlFileData *expected)
{
	ControlFileData control;

	if (!elector_control_read(directory, &control))
		return false;
	if (memcmp(&control, expected, sizeof(control)) == 0)
	{
		control.state = SPOILED;
		update_controlfile(directory, &control, true);
	}
	return true;
}
