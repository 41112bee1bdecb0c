# pg_elector join: a new node from an empty directory; who is refused, and what is left
# of a join that was cut off.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(spawn process_alive kill_and_wait run_command);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 2, peer => 'elector', zones => { n1 => 'west' })->build;
my $writer  = $cluster->start_writer;

sub arguments
{
	my ($node, @more) = @_;
	return ('join', '-D', $cluster->data($node), '--etcd', $cluster->endpoints, '--cluster', 'orders',
		'--node', $node, '--conninfo', $cluster->node_conninfo($node),
		'--set', "unix_socket_directories=$cluster->{sockets}/$node", @more);
}

sub join_node
{
	my ($node, @more) = @_;
	$cluster->_declare_node($node);
	my $result = $cluster->run_on($node, { timeout => 120 }, 'pg_elector', arguments($node, @more));
	$result->{code} = $result->{rc} >> 8;
	return $result;
}

sub slots { return $cluster->psql($cluster->leader, q{SELECT coalesce(string_agg(slot_name, ' ' ORDER BY slot_name), '') FROM pg_replication_slots}) }

sub refused
{
	my ($name, $why, $node, @more) = @_;
	my $result = join_node($node, @more);
	is($result->{code}, 1, "refused: $name");
	like($result->{err}, $why, "refused, with words: $name");
	return;
}

#
# A new node, started at once.
#
{
	my $result = join_node('n3', '--start', '--log', $cluster->log('n3'), '--zone', 'east', '-c', 'work_mem=5MB');
	is($result->{code}, 0, 'joined and started') or diag("$result->{out}$result->{err}");
	like($result->{err}, qr{^ *\d+/\d+ kB \(100%\)}m, 'pg_basebackup shows how far it is');
	like($result->{out}, qr/^Node "n3" is a member of cluster "orders"\.$/m, 'and what has come of it');
	$cluster->_joined('n3');
	$cluster->{node}{n3}{state} = 'running';
	is($cluster->wait_for_follower('n3'), 'n1', 'it follows');
	is($cluster->status_of('n1', 'n3')->{zone}, 'east', 'in its zone');
	ok(!-e $cluster->data('n3') . '.pg_elector', 'nothing is left beside it');
	my $conf = read_file($cluster->data('n3') . '/postgresql.conf');
	like($conf, qr/^#pg_elector\.node = 'n1'/m, "the leader's own settings are comments");
	is(scalar(() = $conf =~ /^pg_elector\.node = /mg), 1, 'and each is set once');
	$cluster->poll_until(sub { slots() eq 'pg_elector_n2 pg_elector_n3' }, 20, 'the slots');
	pass('by its slot');
}

# It can lead, and come back.
$cluster->remember('n3');
$cluster->psql('n2', q{SELECT elector_switchover('n3')}, timeout => 60);
is($cluster->wait_for_leader, 'n3', 'it can lead');
$cluster->wait_for_follower($_) foreach qw(n1 n2);
$cluster->psql('n2', q{SELECT elector_switchover('n1')}, timeout => 60);
is($cluster->wait_for_leader, 'n1', 'and come back');
$cluster->wait_for_follower($_) foreach qw(n2 n3);

#
# A new node that is started by hand; by the environment.
#
{
	my $result = join_node('n4');
	is($result->{code}, 0, 'joined') or diag("$result->{out}$result->{err}");
	my $data = $cluster->data('n4');
	like($result->{out}, qr{^    \S+/pg_ctl -D \Q$data\E -l \Q$data\E\.log start$}m, 'it says how to start the node');
	unlike(read_file("$data/postgresql.conf"), qr/^pg_elector\.zone/m, "the leader's zone is not the new node's");
	$cluster->_joined('n4');
	$cluster->start('n4');
	is($cluster->wait_for_follower('n4'), 'n1', 'started it follows');
	$cluster->stop('n4');
}

#
# Refused.
#
refused('a directory that is not empty', qr/error: directory "\S+n4" is not empty\n.*hint: /s, 'n4');
refused('a name that is alive', qr/error: node "n2" is alive\n.*hint: Choose another name/s, 'n5', '--node', 'n2');
refused('the name of the leader', qr/error: node "n1" leads the cluster/, 'n5', '--node', 'n1');
refused('an address that is taken', qr/error: 10\.99\.0\.12:5432 is the address of node "n2"/, 'n5', '--conninfo', $cluster->node_conninfo('n2'));
refused('no name', qr/error: "a b" is not a name/, 'n5', '--node', 'a b');
refused('a password', qr/error: the value of --conninfo holds a password/, 'n5', '--conninfo', $cluster->node_conninfo('n5') . ' password=hush');
refused('another cluster', qr/error: etcd at \S+ knows no cluster "invoices"\n.*hint: /s, 'n5', '--cluster', 'invoices');
ok(!-e $cluster->data('n5'), 'nothing was made for them');
{
	my $result = run_command({}, $cluster->bindir . '/pg_elector', arguments('n5'));
	ok(!$result->{ok} && $result->{err} =~ /cannot be executed by "root"/, 'refused: root');
}
is(slots(), 'pg_elector_n2 pg_elector_n3 pg_elector_n4', 'and no slot');

#
# Cut off in the middle, by a signal: nothing is left.  By SIGKILL: what is left is no
# server, and the next join says what to delete.
#
$cluster->psql('n1', 'CREATE TABLE large AS SELECT g, repeat(md5(g::text), 20) AS t FROM generate_series(1, 150000) AS g', timeout => 60);
my $rate = $cluster->base . '/bin';
mkdir $rate;
symlink $cluster->bindir . "/$_", "$rate/$_" foreach qw(postgres pg_ctl);
run_command({}, 'cp', $cluster->bindir . '/pg_elector', $rate);
write_file("$rate/pg_basebackup", "#!/bin/sh\nexec " . $cluster->bindir . "/pg_basebackup --max-rate=2M \"\$@\"\n");
chmod 0755, "$rate/pg_basebackup";

sub join_slowly
{
	my ($node) = @_;
	my $log = $cluster->base . "/join-$node.log";
	$cluster->_declare_node($node);
	my $pid = spawn({ log => $log, env => { HOME => $cluster->base } }, $cluster->as_user($node), "$rate/pg_elector", arguments($node));
	$cluster->poll_until(sub { -e $log && read_file($log) =~ / kB \([1-9]\d*%\)/ && slots() =~ /pg_elector_$node\b/ }, 30, 'the copy to be under way');
	return ($pid, $log);
}

{
	my ($pid, $log) = join_slowly('n5');
	kill 'INT', $pid;
	$cluster->poll_until(sub { !process_alive($pid) }, 20, 'the join to end');
	like(read_file($log), qr/ended by a signal/, 'interrupted: it says so');
	ok(!-e $cluster->data('n5') && !-e $cluster->data('n5') . '.pg_elector', 'interrupted: nothing is left');
	unlike(slots(), qr/n5/, 'interrupted: no slot, either');

	($pid) = join_slowly('n5');
	kill_and_wait('KILL', $pid);
	$cluster->poll_until(sub { !$cluster->pids('n5') }, 20, 'pg_basebackup to end with it');
	my $data = $cluster->data('n5');
	is(join(' ', map { s{.*/}{}r } glob("$data/*")), '', 'killed: the data directory is empty');
	my $start = $cluster->start('n5', may_fail => 1, timeout => 10);
	ok(!$start->{ok}, 'killed: nothing there can be started');
	refused('after one that was killed', qr/error: an earlier join or rewind of "\Q$data\E" was cut off\n.*hint: .*delete "\Q$data\E\.pg_elector", and what is in/s, 'n5');
	run_command({}, 'rm', '-rf', "$data.pg_elector");
	$cluster->poll_until(sub { $cluster->psql('n1', q{SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'pg_elector_n5'}) eq 't' }, 20, 'the slot to be free');
	my $result = join_node('n5', '--start', '--log', $cluster->log('n5'), '-c', 'work_mem=5MB');
	is($result->{code}, 0, 'killed: joined after that was done') or diag("$result->{out}$result->{err}");
	$cluster->_joined('n5');
	$cluster->{node}{n5}{state} = 'running';
	is($cluster->wait_for_follower('n5'), 'n1', 'killed: it follows');
}

# The place of a member that is gone.
{
	$cluster->kill_all('n5');
	$cluster->poll_until(sub { !exists { $cluster->etcd_keys }->{'alive/n5'} }, 20, 'n5 to be dead');
	$cluster->revive('n5');
	run_command({}, 'rm', '-rf', $cluster->data('n5'));
	my $result = join_node('n5', '--start', '--log', $cluster->log('n5'), '-c', 'work_mem=5MB');
	is($result->{code}, 0, 'a member that lost its disk joins by its name') or diag("$result->{out}$result->{err}");
	like($result->{err}, qr/node "n5" is a member that is not alive: its place is taken/, 'and is told');
	is($cluster->wait_for_follower('n5'), 'n1', 'and follows');
}

# Nobody leads.
$cluster->stop($_) foreach qw(n5 n3 n2);
$writer->wait_for_acks(10);
$writer->stop;
$cluster->stop('n1');
refused('when nobody leads', qr/error: nobody leads cluster "orders" now\n.*hint: "pg_elector status"/s, 'n6');
$cluster->start($_) foreach qw(n1 n2 n3 n4 n5);
$cluster->wait_for_leader(timeout => 60);
$cluster->remember;
$cluster->check_whole('joined');
$writer->check_rows($cluster->leader, name => 'joined', losses => 0);

done_testing();
