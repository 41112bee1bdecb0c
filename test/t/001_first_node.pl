# A first node, five lines and a start; then more nodes, copied from it; then
# nothing happens, and nothing is written.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $idle = $ENV{ELECTOR_TEST_IDLE} // 20;    # seconds

my $cluster = ElectorCluster->new(nodes => 3);
$cluster->start_etcd;

# The first node.
$cluster->init_first('n1');
my $started = now();
$cluster->start('n1');
$cluster->wait_for_writable('n1');
cmp_ok(now() - $started, '<', 3, 'elected and writable within three seconds');
like($cluster->log_since('n1'), qr/LOG:  leadership of term 1 is open/, 'the log says so');

$cluster->create_schema('n1');
is($cluster->psql('n1', 'SELECT elector_term()'), 1, 'elector_term()');
is($cluster->psql('n1', 'SELECT elector_is_leader()'), 't', 'elector_is_leader()');

my ($row) = $cluster->query_status('n1');
foreach my $column (qw(node role state term timeline lsn lag_bytes lease_ms_left priority zone detail))
{
	ok(exists $row->{$column}, "elector_status has the column $column");
}
is($row->{node},     'n1',     'its only row is the node');
is($row->{role},     'leader', 'which leads');
is($row->{state},    'open',   'and takes writes');
is($row->{term},     1,        'in the first term');
is($row->{priority}, 100,      'with the default priority');
cmp_ok($row->{lease_ms_left}, '>', 0, 'its lease lives');
cmp_ok($row->{lease_ms_left}, '<=', 2000, 'for no longer than the TTL');
is($cluster->psql('n1', 'SELECT count(*) FROM elector_lease'), 1, 'elector_lease has a row');

my @history = $cluster->check_history('first node', 'n1');
is(scalar @history, 1, 'one leadership so far');
is($history[0]{leader}, 'n1', 'it was the first node\'s');
ok(defined $history[0]{opened_at}, 'it has opened');
foreach my $column (qw(term leader elector timeline lsn reason revoked note began_at opened_at
	lock_ms revoke_ms establish_ms promote_ms open_ms))
{
	ok(exists $history[0]{$column}, "elector_history has the column $column");
}
is($cluster->psql(undef, 'INSERT INTO rows (n) VALUES (0) RETURNING n', conninfo => $cluster->conninfo_all),
	0, 'an application writes');

# A second node, copied and started; a third, copied before the leader changes.
$cluster->add_node('n2', from => 'n1');
$cluster->add_node('n3', from => 'n1');
ok(!-e $cluster->data('n2') . '/standby.signal', 'no standby.signal was made by hand');
$cluster->start('n2');
is($cluster->wait_for_follower('n2'), 'n1', 'the second node follows');
is($cluster->psql('n2', 'SELECT elector_is_leader()'), 'f', 'and does not lead');
is($cluster->status_of($_, 'n2')->{role}, 'follower', "as $_ says") foreach qw(n1 n2);
$cluster->wait_for_status('n2', 'n1', { role => 'leader', state => 'open' });
pass('the follower shows the leader, too');
is($cluster->psql(undef, 'SELECT count(*) FROM rows', conninfo => $cluster->conninfo_all),
	1, 'an application finds the leader among two');
is(($cluster->ask('n2', 'INSERT INTO rows (n) VALUES (-1)'))[0], '25006', 'a follower takes no write');

$cluster->try_psql('n1', q{SELECT elector_switchover('n2')}, timeout => 30);
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'the leader changes');
$cluster->start('n3');
is($cluster->wait_for_follower('n3'), 'n2', 'a copy of the old leader follows the new one');
$cluster->wait_for_follower('n1');
is(scalar $cluster->query_status('n3'), 3, 'elector_status has a row for each');
$cluster->remember;
$cluster->check_whole('three nodes');

# Nothing happens.
my %worker = map { $_ => $cluster->worker_pid($_) } $cluster->nodes;
my %wakeups = map { $_ => $cluster->wakeups($worker{$_}) } $cluster->nodes;
my $puts     = $cluster->etcd_metric('etcd_mvcc_put_total');
my $deletes  = $cluster->etcd_metric('etcd_mvcc_delete_total');
my $revision = $cluster->etcd_revision;
my $until    = now() + $idle;
$cluster->poll_until(sub { now() > $until }, $idle + 5, 'an idle time to pass');

is($cluster->etcd_metric('etcd_mvcc_put_total'), $puts, "nothing is written to etcd in $idle s");
is($cluster->etcd_metric('etcd_mvcc_delete_total'), $deletes, 'nothing is deleted');
is($cluster->etcd_revision, $revision, 'the revision stands still');
foreach my $node ($cluster->nodes)
{
	is($cluster->worker_pid($node), $worker{$node}, "the elector of $node is the same process");
	my $wakeups = $cluster->wakeups($worker{$node}) - $wakeups{$node};
	cmp_ok($wakeups, '<', $idle * 15, "it slept, but for $wakeups times in $idle s");
	my $memory = $cluster->private_memory($worker{$node});
	cmp_ok($memory, '<', 10 * 1024, "and under 10 MB of private memory ($memory kB)");
}
is($cluster->leader, 'n2', 'the leader is the same');

done_testing();
