# The program pg_elector by itself: what it says in etcd for a server that has
# ended.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(spawn must_run process_alive);
use JSON::PP;
use POSIX qw(:sys_wait_h);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 1, plain => 1)->build;
my $data    = $cluster->data('n1');
my $program = $cluster->bindir . '/pg_elector';
my $prefix  = $cluster->prefix;

sub write_own
{
	my ($file, $text) = @_;
	mkdir "$data/pg_elector", 0700;
	write_file("$data/pg_elector/$file", $text);
	chown $cluster->{uid}, $cluster->{gid}, "$data/pg_elector", "$data/pg_elector/$file";
	return;
}

# Leadership of a term as the server would have left it; returns the lease.
sub lead
{
	my ($term, %opts) = @_;
	my ($lease) = $cluster->etcdctl('lease', 'grant', 60) =~ /lease (\w+)/;
	my $decimal = Math::BigInt->from_hex($lease)->bstr;

	$cluster->etcdctl('put', "--lease=$lease", "${prefix}leader",
		encode_json({ node => $opts{leader} // 'n1', instance => 'a', term => "$term", conninfo => 'host=x' }));
	$cluster->etcdctl('put', "--lease=$lease", "${prefix}election",
		encode_json({ node => $opts{elector} // 'n1', instance => 'a', purpose => 'handover', term => "$term" }));
	$cluster->etcdctl('put', "${prefix}term", $opts{term_record} // encode_json({
		term => "$term", node => 'n1', instance => 'a', lease => $decimal, timeline => 1,
		begun => JSON::PP::true, lsn => '0/1000028', opened => JSON::PP::true, opened_at => '1',
		automatic => JSON::PP::false, released => JSON::PP::false,
		ancestors => [] }));
	my $got = decode_json($cluster->etcdctl('get', "${prefix}leader", '-w', 'json'));
	write_own('leadership', "pg_elector leadership 1\nnode = n1\ninstance = a\nterm = $term\n"
		  . "lease = $decimal\ncreate_revision = " . ($opts{revision} // $got->{kvs}[0]{create_revision})
		  . "\nheir = " . ($opts{heir} // "") . "\nstopped_at = 0\nend\n");
	return $lease;
}

sub run_program
{
	my (%opts) = @_;
	my $since = now();
	my $pid = spawn({ log => $cluster->log('n1') }, $cluster->as_user('n1'), $program, 'postmaster',
		"--data-directory=$data", '--etcd=' . ($opts{etcd} // $cluster->endpoints),
		'--cluster=orders', '--node=n1',
		exists $opts{instance} ? @{ $opts{instance} } : '--instance=a',
		'--exit', '--', $cluster->bindir . '/postgres');
	my $status;
	$cluster->poll_until(
		sub { waitpid($pid, WNOHANG) == $pid && defined($status = $? >> 8) },
		20, 'the program to end');
	is($status, $opts{status} // 0, 'exit status');
	return now() - $since;
}

sub lease_lives
{
	my ($lease) = @_;
	return $cluster->etcdctl('lease', 'timetolive', $lease) !~ /already expired|TTL\(-1s\)/;
}

use Math::BigInt;

# A handover: the proof, and the heir.
my $lease = lead(7, heir => 'n2');
write_own('todo', "pg_elector todo 1\nnode = n1\nkind = handover\nterm = 7\nleader = n2\nsource = \nend\n");
$cluster->stop('n1');
my $control = must_run({}, $cluster->bindir . '/pg_controldata', $data);
my ($checkpoint) = $control =~ m{^Latest checkpoint location:\s+(\S+)}m;
run_program(status => 75);
my %keys = $cluster->etcd_keys;
my $term = decode_json($keys{term});
ok(!exists $keys{leader} && !exists $keys{election}, 'handover: leader and election are gone');
is($term->{released}, JSON::PP::true, 'handover: released');
is($term->{released_lsn}, $checkpoint, 'handover: at the shutdown checkpoint');
is($term->{released_timeline}, 1, 'handover: on its timeline');
is($term->{heir}, 'n2', 'handover: to the heir');
is("$term->{opened} $term->{lease}", "1 " . Math::BigInt->from_hex($lease)->bstr, 'handover: the rest as it was');
ok(!lease_lives($lease), 'handover: the lease is revoked');
ok(!-e "$data/pg_elector/leadership", 'handover: struck out');
unlink "$data/pg_elector/todo";

# A plain stop has no heir; somebody else's election stays.
lead(8, elector => 'n3');
run_program();
%keys = $cluster->etcd_keys;
ok(!exists $keys{leader}, 'stop: leader is gone');
is(decode_json($keys{term})->{heir} // '', '', 'stop: no heir');
is(decode_json($keys{term})->{released_lsn}, $checkpoint, 'stop: with the position');

# A newer leader is left alone.
my $other = lead(9, leader => 'n2', revision => 1);
my $before = { $cluster->etcd_keys };
$before->{$_} //= '' foreach qw(leader election);
my $record = $before->{term};
$cluster->etcdctl('put', "${prefix}leader", $before->{leader});    # without the lease
run_program();
%keys = $cluster->etcd_keys;
is($keys{leader}, $before->{leader}, 'too late: the leader stays');
is($keys{term}, $record, 'too late: the term stays');
$cluster->etcdctl('del', "${prefix}leader");

# What cannot be read is not overwritten; the key goes.
lead(10, term_record => '{"term":');
run_program();
%keys = $cluster->etcd_keys;
is($keys{term}, '{"term":', 'unreadable term: left alone');
ok(!exists $keys{leader}, 'unreadable term: the leader is gone');

# Not shut down: no position.
$cluster->start('n1');
$lease = lead(11);
my $pid = $cluster->postmaster_pid('n1');
$cluster->stop('n1', mode => 'immediate');
run_program();
%keys = $cluster->etcd_keys;
is(decode_json($keys{term})->{released}, JSON::PP::true, 'crash: released');
like(decode_json($keys{term})->{released_lsn} // '0/0', qr{^0/0$}, 'crash: without a position');

# etcd does not answer, or one of it.
my $silent = 'http://' . $cluster->start_silent('s1', 2379) . ':2379';
lead(12);
cmp_ok(run_program(etcd => $silent), '<', 3.5, 'silent etcd: bounded');
ok(!-e "$data/pg_elector/leadership", 'silent etcd: struck out');
like($cluster->log_since('n1'), qr/could not release leadership in etcd.*The lease expires/s, 'silent etcd: said so');
lead(13);
cmp_ok(run_program(etcd => "$silent," . $cluster->endpoints), '<', 2, 'one silent: still done');
%keys = $cluster->etcd_keys;
is(decode_json($keys{term})->{released}, JSON::PP::true, 'one silent: released');

# Another node's, which came with a copied data directory.
lead(14);
write_own('leadership', read_file("$data/pg_elector/leadership") =~ s/node = n1/node = n2/r);
run_program();
%keys = $cluster->etcd_keys;
ok(exists $keys{leader}, 'foreign: the leader stays');
ok(!-e "$data/pg_elector/leadership", 'foreign: removed');

# A start gives up nothing, and a postmaster only what it has won itself: the
# directory may be a copy of a leader that lives.
foreach my $case ([ 'a start' ], [ 'another instance', '--instance=b' ])
{
	my ($name, @instance) = @$case;
	$lease = lead(15);
	run_program(instance => \@instance);
	%keys = $cluster->etcd_keys;
	ok(exists $keys{leader} && lease_lives($lease), "$name: the leader stays");
	ok(!-e "$data/pg_elector/leadership", "$name: struck out");
}

# Nor when a rejoin was cut off, and what is there may have come from the source.
foreach my $name ('.pg_elector', '/pg_elector.DS_Store')
{
	my $hold = "$data$name";
	$lease = lead(16);
	mkdir $hold, 0700;
	chown $cluster->{uid}, $cluster->{gid}, $hold;
	run_program();
	%keys = $cluster->etcd_keys;
	ok(exists $keys{leader} && lease_lives($lease), "cut off, <data directory>$name: the leader stays");
	ok(-e "$data/pg_elector/leadership", "cut off, <data directory>$name: nothing is struck out");
	rmdir $hold;
}

# The lock files, as the postmaster would have left them.
my $lock = "$cluster->{sockets}/n1/.s.PGSQL.5432.lock";
$pid = spawn({ log => $cluster->log('n1') }, $cluster->as_user('n1'), '/bin/sh', '-c',
	"printf '%s\\n' \$\$ $data 0 5432 $cluster->{sockets}/n1 '*' > $data/postmaster.pid; "
	  . "cp $data/postmaster.pid $lock; exec $program postmaster --data-directory=$data "
	  . '--cluster=orders --node=n1 --exit');
$cluster->poll_until(sub { !process_alive($pid) }, 20, 'the program to end');
ok(!-e "$data/postmaster.pid" && !-e $lock, 'lock files are removed');

$cluster->start('n1');
run_program(status => 1);
ok(-e "$data/postmaster.pid", 'another server\'s lock file is left alone');
like($cluster->log_since('n1'), qr/belongs to another process/, 'and it says so');
$cluster->stop('n1');

done_testing();
