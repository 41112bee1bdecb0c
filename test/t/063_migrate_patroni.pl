# docs/migrating.md: a cluster run by Patroni becomes one that elects its own primary,
# under a writer.  Only where Patroni is installed (test/setup bench).
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use lib dirname(abs_path(__FILE__)) . '/../bench';
use ElectorCluster;
use ElectorProcess qw(run_command);
use PatroniCluster;
use Test::More;

plan skip_all => 'Patroni is not installed (test/setup bench)' unless PatroniCluster->version;

my $cluster = PatroniCluster->new(nodes => 3)->build;
my $writer  = $cluster->start_writer;
$writer->wait_for_acks(50);
note('Patroni ' . PatroniCluster->version);

sub patroni_pids { my ($node) = @_; return $cluster->find_processes($node, qr{^\S*python3 \S*/patroni }) }

# pg_ctl, from here on.
sub restart
{
	my ($node) = @_;
	ElectorCluster::stop($cluster, $node);
	return ElectorCluster::start($cluster, $node);
}

#
# Patroni lets go of the servers: paused, it leaves them running when it is stopped.
#
my $paused = run_command({ timeout => 60, env => { LC_ALL => 'C.UTF-8' } }, $cluster->network->on('n1'),
	'patronictl', '-c', $cluster->data('n1') . '.patroni.json', 'pause', '--wait', 'orders');
ok($paused->{ok}, 'patronictl pause --wait') or diag("$paused->{out}$paused->{err}");
my %before = map { $_ => $cluster->postmaster_pid($_) } qw(n1 n2 n3);
foreach my $node (qw(n1 n2 n3))
{
	my @pids = patroni_pids($node);
	ok(scalar @pids, "Patroni runs on $node");
	kill 'TERM', @pids;
	$cluster->poll_until(sub { !patroni_pids($node) }, 30, "Patroni on $node to end");
	is($cluster->postmaster_pid($node), $before{$node}, "and leaves the server running");
}
$writer->wait_for_acks(20);

#
# The lines of a node, and the primary first.
#
$cluster->psql('n1', 'CREATE EXTENSION pg_elector');
sub add_lines
{
	my ($node) = @_;
	my %lines = (
		shared_preload_libraries => 'pg_elector', 'pg_elector.cluster' => 'orders', 'pg_elector.node' => $node,
		'pg_elector.etcd' => $cluster->endpoints, 'pg_elector.conninfo' => $cluster->node_conninfo($node),
		'pg_elector.lease_ttl' => '2s', 'pg_elector.failover_cooldown' => '0s');
	$cluster->append($node, 'postgresql.conf', join '', map { "$_ = '$lines{$_}'\n" } sort keys %lines);
	return;
}
add_lines('n1');
restart('n1');
$cluster->{plain} = 0;
$cluster->poll_until(sub { $cluster->is_leader('n1') }, 30, 'n1 to lead');
$writer->wait_for_acks(20);
pass('the primary is restarted, and leads');
foreach my $node (qw(n2 n3))
{
	$cluster->poll_until(
		sub { $cluster->psql('n1', q{SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND client_addr = '} . $cluster->address($node) . q{'}) == 1 },
		60, "$node to stream from it");
	add_lines($node);
	restart($node);
	is($cluster->wait_for_follower($node, 60), 'n1', "$node is restarted, and follows");
}
is($cluster->term('n1'), 1, 'nobody else has led');

# Patroni's slots keep WAL for nobody.
my $drop = q{SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active AND slot_name NOT LIKE 'pg\_elector\_%'};
$cluster->poll_until(sub { $cluster->psql('n1', q{SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'pg\_elector\_%' AND active}) == 2 }, 30, 'the slots to be used');
$cluster->psql($_, $drop) foreach qw(n1 n2 n3);
is($cluster->psql('n1', q{SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots}), 'pg_elector_n2 pg_elector_n3', q{Patroni's slots are dropped});

# It is a cluster like any other.
$cluster->kill_postmaster('n1');
my $new = $cluster->wait_for_leader(exclude => 'n1');
ok($new, "the leader is killed: $new leads");
$cluster->wait_for_no_process('n1');
ElectorCluster::start($cluster, 'n1');
is($cluster->wait_for_follower('n1', 60), $new, 'and the old one follows');
$writer->wait_for_acks(20);
$writer->stop;
$writer->check_rows($new, name => 'moved over', losses => 1);

done_testing();
