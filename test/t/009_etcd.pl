# Faults at etcd.  One of three members dead, silent or cut off, and all of them
# restarted within the TTL: nothing happens.  Gone for longer, without failsafe: writes
# stop at the deadline, sessions stay, and all goes on with the same leader.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

sub errors_since
{
	my ($probers, $node, $since) = @_;
	return scalar grep { $_->{node} eq $node && $_->{at} >= $since } $probers->errors;
}

# Three members.  When the one that dies is etcd's own leader, etcd elects another,
# and a split vote makes that last several seconds; what must go unnoticed is what
# is shorter than two thirds of the TTL, after which a renewal is overdue.
{
	my $cluster = ElectorCluster->new(nodes => 2, etcd => 3, ttl => '10s')->build;
	my $writer  = $cluster->start_writer;
	my $probers = $cluster->start_probers;
	my $term    = $cluster->term('n1');

	my $unnoticed = sub {
		my ($name, $fault, $end) = @_;
		my $since = now_us();
		$fault->();
		$cluster->poll_until(sub { now_us() - $since > 11e6 }, 20, 'a lease to end');
		$end->();
		is($cluster->term('n1'), $term, "$name: the leader stays");
		is(errors_since($probers, 'n1', $since), 0, "$name: not one probe was refused");
		my $gap = $writer->longest_gap(since => $since);
		cmp_ok($gap, '<', 1000, "$name: writes go on ($gap ms)");
	};
	foreach my $member ('e1', 'e2')
	{
		$unnoticed->("$member dead", sub { $cluster->kill_etcd($member) }, sub { $cluster->start_etcd($member) });
	}
	$unnoticed->('e1 silent', sub { $cluster->stop_all('e1') }, sub { $cluster->cont_all('e1') });
	$unnoticed->('e1 cut off', sub { $cluster->cut('e1') }, sub { $cluster->heal('e1') });
	$cluster->check_end('one of three', $writer, $probers);
}

# One member.
my $cluster = ElectorCluster->new(nodes => 3, ttl => '5s', settings => { 'pg_elector.failsafe' => 'off', 'pg_elector.lease_wait' => 0 })->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my $term    = $cluster->term('n1');

my $since = now_us();
$cluster->kill_etcd;
$cluster->start_etcd;
my $away = (now_us() - $since) / 1000;
cmp_ok($away, '<', 3000, "etcd restarts within the TTL ($away ms)");
$cluster->poll_until(sub { now_us() - $since > 7e6 }, 15, 'a lease to end');
is($cluster->term('n1'), $term, 'restarted: the leader stays');
is(errors_since($probers, 'n1', $since), 0, 'restarted: not one probe was refused');

# Gone for longer than the TTL.
my $session = $cluster->session('n1');
my $backend = $session->query('SELECT pg_backend_pid()')->{out};
my $up      = $session->query('SELECT pg_postmaster_start_time()')->{out};
$since = now_us();
$cluster->kill_etcd;
my $refused = $probers->wait_for_close('n1', $since);
my $after = ($refused->{at} - $since) / 1000;
cmp_ok($after, '<', 5000, "gone: writes stop before the lease can have ended ($after ms)");
ok($probers->wait_for_error('n1', '57P03', 'connect', $since), 'gone: new connections are refused');
my $error = $session->query('INSERT INTO rows (n) VALUES (-1)');
is($error->{sqlstate}, '25006', 'gone: a session gets the error');
like($error->{err}, qr/this node does not hold the leadership/, "gone: the error says why: $error->{err}");
$cluster->poll_until(sub { now_us() - $since > 8e6 }, 15, 'more than the TTL to pass');
is($probers->first_ack(since => $refused->{at}), undef, 'gone: nobody takes a write');

$cluster->start_etcd;
$cluster->poll_until(sub { $session->query('INSERT INTO rows (n) VALUES (-3)')->{ok} }, 20,
	'the session to go on');
is($session->query('SELECT pg_backend_pid()')->{out}, $backend, 'back: the same session');
is($session->query('SELECT pg_postmaster_start_time()')->{out}, $up, 'back: no restart');
is($cluster->wait_for_leader, 'n1', 'back: the same leader');
is($cluster->term('n1'), $term, 'back: in the same term');
is(scalar $cluster->query_history('n1'), 1, 'back: no election');
is($session->query('SELECT count(*) FROM rows WHERE n = -1')->{out}, 0, 'back: without the row that was refused');

$cluster->check_end('etcd', $writer, $probers);

done_testing();
