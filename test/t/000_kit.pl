# The kit itself, on PostgreSQL without the library: cuts cut, clients see what
# happens, the checks find what they are for.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 2, plain => 1)->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;

is($cluster->leader, 'n1', 'the primary is found');

$cluster->etcdctl('put', $cluster->prefix . 'x', '{"a":1}');
is({ $cluster->etcd_keys }->{x}, '{"a":1}', 'keys are read from etcd');
is($cluster->etcd_metric('etcd_mvcc_put_total'), 1, 'writes to etcd are counted');

# Sessions.
my $local = $cluster->session('n1');
my $net = $cluster->session('n1', over => 'net');
is($local->query('SELECT 1')->{out}, 1, 'a session answers');
is($local->query('SELECT 1/0')->{sqlstate}, '22012', 'it tells the SQLSTATE of an error');
is(($cluster->ask('n1', 'SELECT 1', user => 'nobody'))[0],
	'28000', 'SQLSTATE of a connection that is refused');

# Silence, felt over the network only, in sessions that are open and new ones.
$cluster->cut('n1');
is($local->query('SELECT 1')->{out}, 1, 'cut: the host reaches itself');
$net->send('SELECT 2');
ok($net->finish(0.5)->{timed_out}, 'cut: an open session is silent');
is(($cluster->ask('n1', 'SELECT 1', over => 'net'))[1], 'connect', 'cut: nobody gets in');
$cluster->heal('n1');
is($net->finish(10)->{out}, 2, 'healed: the session goes on');

# One direction, some hosts, refusal.
$cluster->cut('n2', from => 'peers', direction => 'in');
my @from_peer = ({ timeout => 1 }, 'psql', '-X', '-U', 'postgres', '-h', $cluster->address('n2'), '-c', 'SELECT 1');
ok($cluster->run_on('n1', @from_peer)->{timed_out}, 'cut from peers: silent to a peer');
is(($cluster->ask('n2', 'SELECT 1', over => 'net'))[0], 'ok', 'cut from peers: others get in');
$cluster->heal('n2');
$cluster->cut('n2', from => ['n1'], refuse => 1);
my $refused = $cluster->run_on('n1', @from_peer);
ok(!$refused->{ok} && !$refused->{timed_out}, 'refused: at once');
$cluster->heal('n2');
$cluster->cut('n1', from => 'clients', refuse => 1);
ok(!$net->query('SELECT 3', 5)->{alive}, 'refused: an open session is reset');
$cluster->heal('n1');

# A silent host.
$cluster->start_silent('s1', 5432);
ok($cluster->run_on('n1', { timeout => 1 }, 'psql', '-X', '-U', 'postgres', '-h',
		$cluster->address('s1'), '-c', 'SELECT 1')->{timed_out}, 'a silent host does not');

# The writer's gap, and the rows.
$cluster->wait_for_follower('n2');
$writer->wait_for_acks(50);
$cluster->kill_all('n1');
my $dead_at = now_us();
$cluster->psql('n2', 'SELECT pg_promote()');
$writer->wait_for_acks(50);
$_->stop foreach ($writer, $probers);
cmp_ok($writer->longest_gap(since => $dead_at), '<', 3000, 'the gap is measured');
is($probers->last_ack('n1', since => $dead_at), undef, 'a dead server acknowledges nothing');
ok($probers->first_ack(not => 'n1', since => $dead_at), 'another one does');
$writer->check_rows('n2', losses => 1);

# What proves two open gates, and what does not.
sub found
{
	return join '; ', ElectorClients::violations(
		[ map { { node => $_->[0], term => $_->[1], sent => $_->[2], acked => $_->[3] } } @_ ]);
}
is(found([ 'a', 1, 1, 5 ], [ 'b', 2, 6, 8 ], [ 'a', 3, 9, 12 ]), '', 'one after the other');
is(found([ 'a', 1, 1, 7 ], [ 'b', 2, 6, 8 ]), '', 'intervals that overlap prove nothing');
like(found([ 'a', 1, 1, 5 ], [ 'b', 2, 6, 8 ], [ 'a', 1, 8, 12 ]), qr/was open/, 'an older term opened again');
like(found([ 'a', 1, 1, 5 ], [ 'b', 1, 6, 8 ]), qr/acknowledged by a b/, 'two nodes in one term');
like(found([ 'a', 1, 1, 200_000 ], [ 'b', 2, 6, 8 ]), qr/acknowledged 199992 us after/, 'a late answer');

done_testing();
