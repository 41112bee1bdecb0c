# The program pg_elector by itself, without the library: rewinds, clones, and
# what happens when they are cut off.  n1 has gone another way than n2, which is
# the primary; n1 must come back as n2's follower, or say why not.
use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorCluster;
use File::Basename qw(dirname);
use ElectorProcess qw(spawn must_run process_alive kill_and_wait);
use JSON::PP qw(decode_json encode_json);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 2, plain => 1)->build;
my $data    = $cluster->data('n1');
my $hold    = "$data.pg_elector";
my $pg_bin  = $cluster->bindir;
my $fake    = $cluster->base . '/bin';
my $cut_library = $cluster->base . '/cut.so';
my $scratch = 0;

#
# A folder of programs in which pg_rewind and pg_basebackup can be replaced.
#
mkdir $fake;
symlink "$pg_bin/$_", "$fake/$_" foreach qw(postgres pg_rewind pg_basebackup);

# The real one, and what happens when it says something: $action runs with the
# real one's process id in $pid and the program's in $program.
sub fake
{
	my ($name, $pattern, $action) = @_;
	unlink "$fake/$name";
	write_file("$fake/$name", <<"END");
#!$^X
my \$program = getppid;
my \$pid = open(my \$out, '-|') // die;
if (!\$pid) { open(STDERR, '>&', \\*STDOUT); exec '$pg_bin/$name', \@ARGV; }
\$| = 1;
while (my \$line = <\$out>)
{
	print STDERR \$line;
	if (\$line =~ /$pattern/) { $action }
}
close(\$out);
exit(\$? >> 8);
END
	chmod 0755, "$fake/$name";
	return;
}

sub real
{
	my ($name) = @_;
	unlink "$fake/$name";
	symlink "$pg_bin/$name", "$fake/$name";
	return;
}

my $power_cut = 'kill 9, $pid, $program; kill 9, $$; sleep 10;';

# n2 becomes the primary while n1 goes on, until it is stopped in that mode.
# Statements of one's own are for n1 alone.
sub diverge
{
	my ($mode, @statements) = @_;
	my $number = ++$scratch;

	$cluster->psql('n1', 'CHECKPOINT') if $number % 2;
	$cluster->psql('n2', 'SELECT pg_promote()');
	$cluster->psql('n1', "CREATE TABLE only_n1_$number AS SELECT generate_series(1, 10000) AS a");
	$cluster->psql('n2', "CREATE TABLE only_n2_$number AS SELECT generate_series(1, 10000) AS a");
	$cluster->psql('n1', "INSERT INTO rows (n) SELECT 1000 * $number + g FROM generate_series(1, 100) g");
	$cluster->psql('n1', $_) foreach @statements;
	my $pid = $cluster->postmaster_pid('n1');
	$cluster->stop('n1', mode => $mode);
	kill_and_wait('KILL', $pid);
	return;
}

# Let the two change places again, so that n1 is the primary as before.
sub back
{
	my ($pid) = @_;
	$cluster->wait_for_follower('n1');
	$cluster->stop('n2');
	kill_and_wait('KILL', $pid) unless process_alive($pid);
	$cluster->psql('n1', 'SELECT pg_promote()');
	chown_create('n2', 'standby.signal', '');
	$cluster->start('n2');
	$cluster->wait_for_follower('n2');
	return;
}

sub chown_create
{
	my ($node, $file, $text) = @_;
	my $path = $cluster->data($node) . "/$file";
	write_file($path, $text);
	chown $cluster->{uid}, $cluster->{gid}, $path;
	chmod 0600, $path;
	return;
}

sub work
{
	my ($kind, %opts) = @_;
	my $source = $opts{source} // $cluster->node_conninfo('n2');
	my $node   = $opts{node} // 'n1';

	mkdir "$data/pg_elector", 0700;
	chown $cluster->{uid}, $cluster->{gid}, "$data/pg_elector";
	chown_create('n1', 'pg_elector/todo', "pg_elector todo 1\nnode = $node\nkind = $kind\n"
		  . "term = 2\nleader = n2\nsource = $source\nend\n");
	return;
}

# Options: mode (of rejoining), end (exec), bin, node (n1), cut (at which step), alone (do not
# follow: a server that knows of the new timeline, which is not its own, would not start again)
sub program
{
	my (%opts) = @_;
	my $bin = $opts{bin} // $fake;
	return spawn(
		{ log => $cluster->log('n1'), env => { LC_ALL => 'C' } },
		$cluster->as_user('n1'),
		$opts{cut} ? ('env', "LD_PRELOAD=$cut_library", "CUT_AT=$opts{cut}") : (),
		"$pg_bin/pg_elector", 'postmaster',
		"--data-directory=$data", '--etcd=' . $cluster->endpoints, '--cluster=orders',
		'--node=' . ($opts{node} // 'n1'),
		'--rejoin=' . ($opts{mode} // 'rewind'), '--' . ($opts{end} // 'exec'), '--',
		"$bin/postgres", '-c', "data_directory=$data", '-c', "config_file=$data/postgresql.conf",
		'-c', "hba_file=$data/pg_hba.conf", '-c', "ident_file=$data/pg_ident.conf",
		$opts{alone} ? ('-c', 'primary_conninfo=') : ());
}

sub title
{
	my ($pid) = @_;
	open(my $fh, '<', "/proc/$pid/cmdline") or return '';
	return join ' ', split /\0/, <$fh> // '';
}

# What must not change, except for the hold and what PostgreSQL does itself.
sub own_files
{
	my @all = ('postgresql.conf', 'pg_hba.conf', 'pg_ident.conf', 'secret.key', 'linked.conf',
		'conf.d/own.conf', 'log/yesterday.log');
	return join '', map {
		my @st = lstat "$data/$_";
		"$_ @st[1,2,4,5,7,9] " . (-l "$data/$_" ? readlink "$data/$_" : read_file("$data/$_")) . "\n"
	} @all;
}

sub check_follows
{
	my ($name, $pid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$cluster->wait_for_follower('n1', 60);
	pass("$name: it follows");
	is($cluster->postmaster_pid('n1'), $pid, "$name: with the same process id");
	is($cluster->psql('n1', "SELECT count(*) FROM pg_class WHERE relname = 'only_n1_$scratch'"),
		0, "$name: without what only it had");
	is($cluster->psql('n1', "SELECT count(*) FROM only_n2_$scratch"), 10000,
		"$name: with what the primary has");
	ok(!-e "$data/pg_elector/todo", "$name: the work is struck out");
	ok(!-e $hold && !-e "$data/pg_elector.DS_Store", "$name: nothing is left over");
	is($cluster->psql('n1', "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"),
		1, "$name: it streams");
	return;
}

sub wait_end
{
	my ($pid, $name) = @_;
	$cluster->poll_until(sub { !process_alive($pid) }, 60, "$name: the program to end");
	return;
}

#
# The node's own files, of all kinds; those of n2 that it must not get.
#
foreach my $node (qw(n1 n2))
{
	my $dir = $cluster->data($node);
	my $other = $node eq 'n1' ? 'n2' : 'n1';
	chown_create($node, 'secret.key', "key of $node\n");
	chown 0, $cluster->{gid}, "$dir/secret.key";
	chmod 0640, "$dir/secret.key";
	mkdir "$dir/$_" foreach qw(conf.d log);
	chown $cluster->{uid}, $cluster->{gid}, map { "$dir/$_" } qw(conf.d log);
	chown_create($node, 'conf.d/own.conf', "# of $node\n");
	chown_create($node, 'log/yesterday.log', "log of $node\n");
	$cluster->append($node, 'postgresql.conf',
		"include_dir = 'conf.d'\nprimary_conninfo = '" . $cluster->node_conninfo($other)
		  . " application_name=$node'\n");
}
symlink 'postgresql.conf', "$data/linked.conf";
chown_create('n2', 'linked.conf', "a file here, a link there\n");
chown_create('n2', 'only_n2.conf', "not for n1\n");
utime 1_000_000_000, 1_000_000_000, "$data/postgresql.conf", "$data/conf.d/own.conf";
my $own = own_files();
my $offset;

#
# Rewinds.
#
diverge('fast');
work('rewind');
my $pid = program(bin => $pg_bin);
check_follows('rewound after a clean stop', $pid);
is(own_files(), $own, 'rewound after a clean stop: own files untouched');
ok(!-e "$data/only_n2.conf", 'none of the source is there');
back($pid);

diverge('immediate');
work('rewind');
$pid = program();
check_follows('rewound after a crash', $pid);
is(own_files(), $own, 'rewound after a crash: own files untouched');
my $log = $cluster->log_since('n1');
like($log, qr/running crash recovery/, 'crash recovery comes first');
unlike($log, qr/kB \(\d+%\)/, 'progress is not logged');
back($pid);

#
# A server that was promoted and died before its first checkpoint: its control
# file still names the timeline before.
#
$scratch++;
$pid = $cluster->postmaster_pid('n1');
$cluster->stop('n1');
kill_and_wait('KILL', $pid);
$cluster->psql('n2', 'SELECT pg_promote()');
chown_create('n1', 'standby.signal', '');
$cluster->start('n1');
$cluster->wait_for_follower('n1');
kill 'STOP', grep { title($_) =~ /checkpointer/ } $cluster->pids('n1');
$cluster->psql('n1', 'SELECT pg_promote()');
$cluster->psql($_, "CREATE TABLE only_${_}_$scratch AS SELECT generate_series(1, 10000) AS a") foreach qw(n1 n2);
kill_and_wait('KILL', $cluster->pids('n1'));
$cluster->psql('n2', 'CHECKPOINT');
chown_create('n1', 'standby.signal', '');
$offset = $cluster->log_offset('n1');
$pid = program(alone => 1);
$cluster->wait_log('n1', qr/database system is ready to accept read-only/, $offset);
$cluster->stop('n1');
kill_and_wait('KILL', $pid);
is(must_run({}, "$pg_bin/pg_controldata", $data) =~ /^Latest checkpoint's TimeLineID:\s+(\d+)/m && $1,
	$cluster->psql('n2', 'SELECT timeline_id FROM pg_control_checkpoint()'),
	'promoted and dead: the control file does not tell');
work('rewind');
$pid = program();
check_follows('promoted and dead', $pid);
is(own_files(), $own, 'promoted and dead: own files untouched');
back($pid);

#
# Failures before anything has changed: it starts as a standby, and says why.
#
my $inside = "$data/inside";
mkdir $inside, 0700;
chown $cluster->{uid}, $cluster->{gid}, $inside;
diverge('fast', "CREATE TABLESPACE inside LOCATION '$inside'");
work('rewind', source => 'host=' . $cluster->address('n2') . ' port=5433 user=postgres');
$offset = $cluster->log_offset('n1');
$pid = program(alone => 1);
$cluster->poll_until(sub { -e "$data/pg_elector/problem" }, 20, 'the problem');
like(read_file("$data/pg_elector/problem"), qr/could not connect/, 'unreachable: the problem is told');
$cluster->wait_log('n1', qr/database system is ready to accept read-only/, $offset);
is($cluster->psql('n1', 'SELECT pg_is_in_recovery()'), 't', 'unreachable: a standby');
is($cluster->psql('n1', "SELECT count(*) FROM only_n1_$scratch"), 10000, 'unreachable: as it was');
$cluster->stop('n1');

# A tablespace in the data directory looks like a folder of the node's own, and
# would come back as it was.
my ($link) = glob "$data/pg_tblspc/*";
my $beside = $cluster->base . '/beside';
symlink $inside, $beside;
foreach my $case ([ 'by its name', $inside ], [ 'by a link', "$beside/." ])
{
	my ($name, $target) = @$case;
	unlink $link, "$data/pg_elector/problem";
	symlink $target, $link;
	work('rewind');
	$offset = $cluster->log_offset('n1');
	$pid = program(alone => 1);
	$cluster->poll_until(sub { -e "$data/pg_elector/problem" }, 20, 'the problem');
	like(read_file("$data/pg_elector/problem"), qr/tablespace location "[^"]*" is inside the data directory/,
		"tablespace inside, $name: the problem is told");
	$cluster->wait_log('n1', qr/database system is ready to accept read-only/, $offset);
	ok(!-e $hold, "tablespace inside, $name: nothing is left over");
	$cluster->stop('n1');
}
unlink $link, $beside;
must_run({}, 'rm', '-r', $inside);

foreach my $where ('servers diverged', 'rewinding from last')
{
	fake('pg_rewind', $where, 'kill 9, $pid; print STDERR "pg_rewind: error: made up\n"; exit 1;');
	work('rewind');
	$offset = $cluster->log_offset('n1');
	unlink "$data/pg_elector/problem";
	$pid = program(alone => 1);
	$cluster->poll_until(sub { -e "$data/pg_elector/problem" }, 20, 'the problem');
	like(read_file("$data/pg_elector/problem"), qr/pg_rewind: made up/, "fails at \"$where\": the problem is told");
	$cluster->wait_log('n1', qr/database system is ready to accept read-only/, $offset);
	is($cluster->psql('n1', "SELECT count(*) FROM only_n1_$scratch"), 10000, "fails at \"$where\": as it was");
	is(own_files(), $own, "fails at \"$where\": own files untouched");
	ok(!-e $hold, "fails at \"$where\": nothing is left over");
	$cluster->stop('n1');
}

#
# Cut off before anything has changed, and between the signs of it.
#
fake('pg_rewind', 'servers diverged', $power_cut);
work('rewind');
$pid = program();
wait_end($pid, 'cut off early');
ok(-e $hold, 'cut off early: the hold is there');
ok(-s "$data/postgresql.conf", 'cut off early: there is a configuration');
real('pg_rewind');
$pid = program();
check_follows('cut off early', $pid);
is(own_files(), $own, 'cut off early: own files untouched');
ok(!-e "$data/pg_elector/problem", 'cut off early: the problem is no more');
back($pid);

#
# Cut off in the middle.
#
diverge('fast');
work('rewind');
fake('pg_rewind', 'need to copy', $power_cut);
$offset = $cluster->log_offset('n1');
$pid = program();
wait_end($pid, 'cut off');
ok(-e "$hold/rewinding", 'cut off: the mark is there');
my $start = $cluster->run_on('n1', {}, 'pg_ctl', '-D', $data, '-l', $cluster->log('n1'), '-w', 'start');
ok(!$start->{ok}, 'cut off: a server without the library does not start');
$cluster->wait_log('n1', qr/FATAL:  control file contains invalid/, $offset);

real('pg_rewind');
$pid = program(mode => 'rewind');
wait_end($pid, 'cut off, may not clone');
like($cluster->log_since('n1', $offset), qr/half rewound.*HINT.*pg_elector\.rejoin = 'clone'/s,
	'cut off: refused, and the way out named');
ok(-e "$hold/rewinding", 'cut off: refused again and again');

# The configuration is the source's by now, and what is remembered of leadership:
# it is n2 that starts there, and is not to end its own leadership.  The leader it
# clones from is n2 all the same, and comes back later than we do.
my ($lease) = $cluster->etcdctl('lease', 'grant', 60) =~ /lease (\w+)/;
$cluster->etcdctl('put', "--lease=$lease", $cluster->prefix . 'leader', encode_json({
	node => 'n2', instance => 'b', term => '2', conninfo => $cluster->node_conninfo('n2') }));
my $leader = decode_json($cluster->etcdctl('get', $cluster->prefix . 'leader', '-w', 'json'))->{kvs}[0];
chown_create('n1', 'pg_elector/leadership', "pg_elector leadership 1\nnode = n2\ninstance = b\nterm = 2\n"
	  . "lease = $leader->{lease}\ncreate_revision = $leader->{create_revision}\n"
	  . "heir = \nstopped_at = 0\nend\n");
chown_create('n1', '../n1.pg_elector/todo', read_file("$hold/todo") =~ s/^source = .*/source = host=127.0.0.1 port=1/mr);
$cluster->stop('n2');
$pid = program(mode => 'clone', node => 'n2');
$cluster->wait_log('n1', qr/could not clone .* trying again/, $offset);
ok(exists { $cluster->etcd_keys }->{leader}, 'cut off: the leader stays');
$cluster->start('n2');
check_follows('cut off, then cloned', $pid);
is(own_files(), $own, 'cut off, then cloned: own files untouched');
ok(!-e "$data/only_n2.conf", 'cut off, then cloned: none of the source is there');
back($pid);

#
# Cut off anywhere, again and again: at some step of those that change the disk
# (see cut.c), however far the runs before have come.
#
srand($ENV{TEST_SEED} // 1);
must_run({}, 'cc', '-shared', '-fPIC', '-o', $cut_library, dirname(abs_path(__FILE__)) . '/cut.c', '-ldl');
foreach my $kind (qw(rewind clone))
{
	my $name = "cut off anywhere, $kind";
	my $cuts = 0;

	diverge($kind eq 'rewind' ? 'immediate' : 'fast');
	work($kind);
	while ($cuts < ($ENV{TEST_CUTS} // 12))
	{
		$pid = program(mode => 'clone', cut => 1 + int rand 90);
		$cluster->poll_until(sub { !process_alive($pid) || title($pid) =~ m{^\S*/postgres } }, 60,
			"$name: the end or the server");
		last if process_alive($pid);
		$cuts++;
	}
	note("$name: cut off $cuts times");
	$pid = program(mode => 'clone') unless process_alive($pid);
	check_follows($name, $pid);
	is(own_files(), $own, "$name: own files untouched");
	back($pid);
}

#
# Two programs do not work at once; and what one has started ends with it, its children's
# children, too.
#
diverge('fast');
work('rewind');
fake('pg_rewind', 'servers diverged', 'kill 19, $pid; sleep 60;');
$offset = $cluster->log_offset('n1');
$pid = program();
$cluster->wait_log('n1', qr/servers diverged/, $offset);
my $second = program();
wait_end($second, 'beside another');
like($cluster->log_since('n1', $offset), qr/could not lock data directory/, 'beside another: refused');
is(scalar(grep { title($_) =~ m{/pg_rewind } } $cluster->pids('n1')), 2, 'a program and its grandchild');
kill_and_wait('KILL', $pid);
$cluster->poll_until(sub { !grep { process_alive($_) } $cluster->pids('n1') }, 10, 'what it has started to end');
pass('end with the program that is killed');
real('pg_rewind');
$pid = program();
check_follows('after that', $pid);
back($pid);

#
# The data directory is a mount point: nothing can be renamed out of it.
#
diverge('immediate');
must_run({}, 'mount', '--bind', $data, $data);
work('rewind');
$pid = program();
check_follows('mount point, rewound', $pid);
is(own_files(), $own, 'mount point, rewound: own files untouched');
back($pid);
diverge('fast');
work('clone');
$pid = program();
check_follows('mount point, cloned', $pid);
is(own_files(), $own, 'mount point, cloned: own files untouched');

#
# A note that came with a copied data directory; a plain standby; --exit.
#
$cluster->stop('n1');
work('clone', node => 'n2');
$pid = program();
$cluster->wait_for_follower('n1');
ok(!-e "$data/pg_elector/todo", 'a foreign note is removed');
$cluster->stop('n1');
work('standby');
$pid = program();
$cluster->wait_for_follower('n1');
ok(!-e "$data/pg_elector/todo", 'a standby: struck out');
$cluster->stop('n1');
work('rewind');
$pid = program(end => 'exit');
waitpid($pid, 0);
is($? >> 8, 75, 'exit: done, and it is to be started again');
ok(-e "$data/pg_elector/todo", 'exit: work is left for the next start');
work('rewind');
$pid = program(mode => 'off');
$cluster->wait_for_follower('n1');
ok(!-e "$data/pg_elector/todo", 'off: struck out');

$cluster->stop('n1');
done_testing();

END { system('umount', '-l', $data) if $data && system('mountpoint', '-q', $data) == 0; }
