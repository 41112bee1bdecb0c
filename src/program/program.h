/*
 * program.h
 *	  What the files of the program pg_elector share.
 *
 * See main.c for the order of events.
 */
#ifndef ELECTOR_PROGRAM_H
#define ELECTOR_PROGRAM_H

#include "postgres_fe.h"

#include "access/xlogdefs.h"
#include "catalog/pg_control.h"
#include "libpq-fe.h"

#include "../core/files.h"
#include "../core/hold.h"
#include "../core/records.h"
#include "../etcd/auth.h"
#include "../etcd/client.h"
#include "../etcd/mirror.h"

typedef enum ElectorRejoinMode
{
	ELECTOR_REJOIN_OFF,
	ELECTOR_REJOIN_REWIND,
	ELECTOR_REJOIN_CLONE		/* rewind, else clone */
} ElectorRejoinMode;

/* What the postmaster says on the command line. */
typedef struct ElectorProgram
{
	const char *data_directory;
	ElectorEtcdSettings etcd;	/* endpoints NULL: none */
	const char *cluster;
	const char *node;
	const char *instance;		/* whose leadership is given up; NULL: none */
	ElectorRejoinMode rejoin;
	bool		exec;			/* become the server again */
	char	  **server;			/* its command line, NULL-terminated */

	/* taken from the server's command line */
	const char *bin_directory;
	const char *config_file;	/* NULL: not named */
} ElectorProgram;

/* log.c */
typedef enum ElectorLevel
{
	ELECTOR_LOG,
	ELECTOR_WARNING,
	ELECTOR_FATAL
} ElectorLevel;

extern void elector_log(ElectorLevel level, const char *format,...) pg_attribute_printf(2, 3);
extern void elector_log_detail(const char *format,...) pg_attribute_printf(1, 2);
extern void elector_log_hint(const char *format,...) pg_attribute_printf(1, 2);

/* From now on for a person at a terminal, and not for the server's log. */
extern void elector_log_plainly(void);

/*
 * disk.c: each logs why it failed and returns false.  What they have done when
 * they return true survives a power cut.
 */
extern bool elector_disk_exists(const char *path);
extern char *elector_disk_read(const char *path, size_t limit, size_t *length);
extern bool elector_disk_write(const char *path, const void *data, size_t length);
extern bool elector_disk_make(const char *path);
extern bool elector_disk_clear(const char *path, uint64 from, uint64 upto);
extern bool elector_disk_remove(const char *path);
extern bool elector_disk_remove_tree(const char *path);
extern bool elector_disk_rename(const char *from, const char *to);
extern bool elector_disk_copy(const char *from, const char *to, int64 *budget);
extern char **elector_disk_names(const char *path);

/* control.c */
extern bool elector_control_read(const char *directory, ControlFileData *control);
extern const char *elector_control_state(const ControlFileData *control);
extern bool elector_control_spoiled(const ControlFileData *control);
extern bool elector_control_save(const char *directory, const char *copy);
extern bool elector_control_restore(const char *directory, const char *copy);
extern bool elector_control_spoil(const char *directory,
								  const ControlFileData *expected);

/* pidfile.c */
extern bool elector_pidfile_check(const char *data_directory);
extern bool elector_pidfile_away(const char *data_directory);
extern bool elector_pidfile_back(void);
extern void elector_pidfile_end(const char *data_directory);

/* child.c */
typedef struct ElectorChild
{
	const char *name;			/* for messages */
	char	  **argv;
	const char *password;		/* NULL, or its PGPASSWORD */
	bool		stoppable;		/* a request to stop the server ends it; may
								 * change while it runs */

	/*
	 * Each line it says on standard error, or NULL; true: it is not worth a
	 * line in the log.
	 */
	bool		(*line) (void *arg, pid_t pid, const char *line);
	void	   *arg;
} ElectorChild;

extern bool elector_child_run(ElectorChild *child);
extern bool elector_child_pause(pid_t pid);
extern void elector_child_reap(void);
extern bool elector_stop_requested(void);

/* role_change.c */
extern int	elector_role_change(int argc, char **argv);

/* talk.c */
typedef struct ElectorTalk
{
	ElectorEtcd *etcd;
	ElectorMirror *mirror;
	int64		deadline;
	bool		loading;		/* the request under way reads the mirror */
	bool		answered;
	ElectorEtcdStatus status;
	bool		succeeded;
	int64		lease;
	int64		ttl;
	char		endpoint[256];	/* who answered last */
	char		error[256];
} ElectorTalk;

extern int64 elector_talk_now(void);	/* microseconds */
extern bool elector_talk_begin(ElectorTalk *talk, const ElectorEtcdSettings *etcd,
							   const char *cluster, const char *node, int64 bound);
extern void elector_talk_end(ElectorTalk *talk);
extern bool elector_talk_read(ElectorTalk *talk);
extern bool elector_talk_load(ElectorTalk *talk);
extern bool elector_talk_commit(ElectorTalk *talk, ElectorTxn *txn);
extern bool elector_talk_revoke(ElectorTalk *talk, int64 lease);
extern bool elector_talk_grant(ElectorTalk *talk, int64 ttl);
extern int64 elector_talk_time_left(ElectorTalk *talk, int64 lease);

/* release.c */
extern void elector_release(const ElectorProgram *program,
							const ElectorLeadership *leadership);
extern bool elector_find_leader(const ElectorProgram *program,
								ElectorLeader *leader);

/* source.c: the server to rejoin */
typedef struct ElectorSource
{
	char	   *conninfo;		/* without the password */
	char	   *password;		/* NULL: none */
	uint64		system;
	TimeLineID	timeline;		/* of its control file */
} ElectorSource;

extern bool elector_source_parse(const char *conninfo, ElectorSource *source);
extern bool elector_source_prepare(ElectorSource *source, char *problem, size_t size);

extern char *elector_source_history(const ElectorSource *source);

/* Bounds are in seconds. */
extern PGconn *elector_source_open(const ElectorSource *source, int bound, bool replication);
extern PGresult *elector_source_query(PGconn *conn, const char *query, int bound);
extern char *elector_source_problem(PGconn *conn);

/* What a query that gives one row says in its first column; NULL, and why not. */
extern char *elector_source_ask(const ElectorSource *source, const char *query,
								char *problem, size_t size);

/*
 * Where the source's history left the timeline; the largest number if it has not,
 * 0 if it was never on it.
 */
extern XLogRecPtr elector_source_left_at(const ElectorSource *source, const char *history,
										 TimeLineID timeline);

/* hold.c */
typedef struct ElectorHold
{
	char	   *path;			/* NULL: there is none */
	const char *data_directory;
} ElectorHold;

/* How far a rejoin came; see hold.c. */
#define ELECTOR_HOLD_REWINDING	"rewinding"
#define ELECTOR_HOLD_CLONED		"cloned"
#define ELECTOR_HOLD_DONE		"done"

extern void elector_hold_find(ElectorHold *hold, const char *data_directory);
extern bool elector_hold_create(ElectorHold *hold, const ElectorTodo *todo);
extern bool elector_hold_todo(const ElectorHold *hold, ElectorTodo *todo);
extern char *elector_hold_file(const ElectorHold *hold, const char *name);
extern bool elector_hold_mark(const ElectorHold *hold, const char *mark);
extern bool elector_hold_unmark(const ElectorHold *hold, const char *mark);
extern bool elector_hold_marked(const ElectorHold *hold, const char *mark);
extern char *elector_hold_tablespace_within(const char *data_directory);
extern bool elector_hold_take_own(const ElectorHold *hold);
extern bool elector_hold_give_back(const ElectorHold *hold);
extern bool elector_hold_take_slots(const ElectorHold *hold);
extern bool elector_hold_give_slots(const ElectorHold *hold);
extern bool elector_hold_remove(ElectorHold *hold);
extern bool elector_is_own(const char *directory, const char *name);
extern bool elector_is_of_run(const char *name);

/* rejoin.c */
typedef enum ElectorOutcome
{
	ELECTOR_GO_ON,				/* become the server */
	ELECTOR_STOP,				/* somebody asked the server to stop */
	ELECTOR_FAIL
} ElectorOutcome;

extern ElectorOutcome elector_rejoin(const ElectorProgram *program);

/* discard.c, rewind.c, clone.c */
typedef enum ElectorRejoinResult
{
	ELECTOR_REJOIN_DONE,		/* marked so in the hold */
	ELECTOR_REJOIN_NOT_NOW,		/* nothing changed; may work later */
	ELECTOR_REJOIN_CANNOT,		/* nothing changed; will not work */
	ELECTOR_REJOIN_TORN,		/* the data directory is in pieces */
	ELECTOR_REJOIN_STOPPED		/* somebody asked the server to stop */
} ElectorRejoinResult;

/* One attempt, and what is to be known of it. */
typedef struct ElectorRejoin
{
	const ElectorProgram *program;
	ElectorTodo todo;
	ElectorHold hold;
	char		problem[1024];	/* unless done */

	/* For a new node (join.c), which has no files of its own yet. */
	bool		new_node;
	const char *slot;			/* keeps WAL for it on the source; ... */
	bool		make_slot;		/* ... and is not there yet */
	bool		(*configure) (void *arg, const char *clone);
	void	   *arg;
} ElectorRejoin;

extern ElectorRejoinResult elector_discard(ElectorRejoin *rejoin, const ElectorSource *source,
										   const ControlFileData *control);
extern ElectorRejoinResult elector_rewind(ElectorRejoin *rejoin);
extern bool elector_rewind_undo(ElectorHold *hold);
extern ElectorRejoinResult elector_clone(ElectorRejoin *rejoin);
extern bool elector_clone_replace(const ElectorHold *hold);

/* options.c: what a command that a person types is told */
typedef struct ElectorSetting
{
	const char *name;
	const char *value;
} ElectorSetting;

#define ELECTOR_OPTION_SETTINGS_MAX 32

typedef struct ElectorOptions
{
	const char *bin_directory;	/* where this program lies, and postgres beside it */
	const char *data_directory; /* absolute; NULL: not given */
	const char *config_file;	/* NULL: not given */
	const char *cluster;
	const char *node;
	const char *conninfo;
	const char *zone;
	const char *log;
	ElectorEtcdSettings etcd;
	int64		bound;			/* microseconds */
	bool		json;
	bool		start;
	ElectorSetting settings[ELECTOR_OPTION_SETTINGS_MAX];	/* for the new node's
															 * configuration */
	int			nsettings;
} ElectorOptions;

extern const char *elector_bin_directory(const char *argv0);
extern bool elector_options_parse(ElectorOptions *options, int argc, char **argv,
								  const char *letters);
extern bool elector_options_complete(ElectorOptions *options);
extern bool elector_options_enter(const ElectorOptions *options);

/* "host:port" of a connection string, and what is wrong with it as conninfo, or NULL */
extern char *elector_conninfo_address(const char *conninfo);
extern const char *elector_conninfo_fault(const char *conninfo);
extern char *elector_conninfo_value(const char *conninfo, const char *keyword);

/*
 * config.c: the value of a setting in a server's configuration; NULL: it is not
 * set there.  *problem, if that could not be found out, else NULL.
 */
extern char *elector_config_get(const ElectorOptions *options, const char *name,
								char **problem);
extern bool elector_config_write(const char *file, const ElectorSetting *settings,
								 int nsettings, const char *comment);
extern bool elector_config_drop(const char *file, const ElectorSetting *settings,
								int nsettings);
extern bool elector_config_seconds(const char *value, double unit, double *seconds);

/* check.c, check_members.c */
typedef enum ElectorVerdict
{
	ELECTOR_VERDICT_OK,
	ELECTOR_VERDICT_WARN,		/* works, and not as well as it might */
	ELECTOR_VERDICT_FAIL
} ElectorVerdict;

typedef struct ElectorCheck
{
	ElectorOptions options;
	ElectorTalk talk;			/* the cluster as it is in etcd, ... */
	bool		known;			/* ... if that could be read */
	bool		running;		/* this node's server */
	uint64		system;			/* its system identifier; 0: not known */
	int			nwarnings;
	int			nfailures;
} ElectorCheck;

extern void elector_verdict(ElectorCheck *check, ElectorVerdict verdict, const char *advice,
							const char *format,...) pg_attribute_printf(4, 5);
extern void elector_check_members(ElectorCheck *check);

/* status.c, join.c, check.c: exit statuses */
extern int	elector_status(int argc, char **argv);
extern int	elector_join(int argc, char **argv);
extern int	elector_check(int argc, char **argv);

#endif							/* ELECTOR_PROGRAM_H */
