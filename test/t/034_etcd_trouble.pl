# Trouble with etcd that is no outage: one endpoint is silent or cut off, answers come
# late, the network to it flaps, it loses its quorum, it changes its leader ten times
# in a row.  No server restarts, the leader stays where that is safe, and the log has a
# line for each change of state and no more.  Where etcd does not confirm the lease in
# time, the members' promises hold the gate open, and not one write is refused.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my ($cluster, $probers, %started, %offset, $since);

sub begin
{
	my (%opts) = @_;
	$cluster = ElectorCluster->new(%opts);
	$cluster->start_delays if $opts{delays};
	$cluster->build;
	$probers = $cluster->start_probers;
	%started = map { $_ => $cluster->psql($_, 'SELECT pg_postmaster_start_time()') } $cluster->nodes;
	return;
}

sub mark
{
	$probers->wait_for_ack('n1');
	%offset = map { $_ => $cluster->log_offset($_) } $cluster->nodes;
	$since = now_us();
	return;
}

sub pass_time
{
	my ($seconds, $what) = @_;
	my $from = now();
	$cluster->poll_until(sub { now() - $from > $seconds }, $seconds + 10, $what);
	return;
}

# What the electors have said since mark().
sub lines
{
	my ($node) = @_;
	return grep { /\] pg_elector (?:LOG|WARNING):/ } split /\n/, $cluster->log_since($node, $offset{$node});
}

sub unchanged
{
	my ($what, %opts) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($cluster->term('n1') // '', $opts{term} // 1, "$what: the leader stays");
	foreach my $node ($cluster->nodes)
	{
		is($cluster->psql($node, 'SELECT pg_postmaster_start_time()'), $started{$node}, "$what: $node has not restarted");
		my @lines = lines($node);
		cmp_ok(scalar @lines, '<=', $opts{lines}, "$what: lines in the log of $node") or diag(join "\n", @lines);
	}
	return if $opts{refusals};
	my @refused = grep { $_->{node} eq 'n1' && $_->{at} >= $since } $probers->errors;
	is(scalar @refused, 0, "$what: not one probe was refused");
	return;
}

# The endpoint in use says nothing, or is cut off.  Leases were granted by then; the
# lease left tells how late the renewals came.
foreach my $ttl (2, 5)
{
	begin(nodes => 2, etcd => 3, ttl => "${ttl}s");
	foreach my $case (
		[ 'silent',  sub { $cluster->stop_all('e1') }, sub { $cluster->cont_all('e1') } ],
		[ 'cut off', sub { $cluster->cut('e1') },      sub { $cluster->heal('e1') } ])
	{
		my ($what, $fault, $end) = @$case;
		my $least = 1e9;

		# Whose own leader is another, so that only the way to it is disturbed.
		$cluster->etcd_leader('e3');
		mark();
		$fault->();
		$cluster->poll_until(
			sub {
				my $row = $cluster->status_of('n1', 'n1');
				$least = $row->{lease_ms_left} if $row && $row->{lease_ms_left} < $least;
				return now_us() - $since > 3e6 * $ttl;
			},
			60, 'three leases to end');
		unchanged("lease_ttl $ttl s, the endpoint in use is $what", lines => 2);
		note("lease_ttl $ttl s, $what: at least $least ms of the lease were left");
		$end->();
		pass_time($ttl, 'the member to be back');
	}
	$probers->check("lease_ttl $ttl s");
	$cluster->teardown;
}

# Every answer is late, by up to half the TTL.
begin(nodes => 3, etcd => 3, ttl => '4s', delays => 1, settings => { 'pg_elector.lease_margin' => '1s' });
mark();
$cluster->delay_etcd(0, 2000);
pass_time(30, 'etcd to be slow');
unchanged('answers late by up to half the TTL', lines => 20);
$cluster->delay_etcd(400, 600);
pass_time(5, 'what was later to have come');
mark();
pass_time(20, 'etcd to be less slow');
unchanged('answers late by an eighth of the TTL', lines => 2);
$cluster->delay_etcd(0, 0);

# The network to all of etcd flaps, shorter than the TTL.
$probers->wait_for_ack('n1');
mark();
foreach my $round (1 .. 8)
{
	$cluster->cut("late-$_") foreach $cluster->members;
	pass_time(1, 'the network to be away');
	$cluster->heal("late-$_") foreach $cluster->members;
	pass_time(1, 'the network to be back');
}
unchanged('the network flaps', lines => 16);

# Longer than the TTL, while etcd itself lives and ends the lease: then somebody leads,
# the one who is back first.
$probers->wait_for_ack('n1');
mark();
foreach my $round (1 .. 2)
{
	$cluster->cut("late-$_") foreach $cluster->members;
	pass_time(6, 'leases to end');
	$cluster->heal("late-$_") foreach $cluster->members;
	my $leader = $cluster->wait_for_leader(timeout => 30);
	$cluster->wait_for_follower($_) foreach grep { $_ ne $leader } $cluster->nodes;
}
foreach my $node ($cluster->nodes)
{
	cmp_ok(scalar lines($node), '<=', 2 * 30, "the network is away for longer: lines in the log of $node");
}
$probers->check('slow, and away');
$cluster->teardown;

# etcd changes its leader, ten times in a row; it comes and goes; it loses its quorum.
begin(nodes => 3, etcd => 3, ttl => '5s');
mark();
foreach my $change (1 .. 10)
{
	my ($next) = grep { $_ ne $cluster->etcd_leader } $cluster->members;
	$cluster->etcd_leader($next);
}
pass_time(6, 'more than the TTL');
unchanged('etcd changes its leader ten times', lines => 2);

# etcd as a whole goes and comes, and is away for longer than the TTL: with it, time
# stands still for the leases.
mark();
foreach my $round (1 .. 3)
{
	$cluster->kill_etcd;
	pass_time(6, 'more than the TTL');
	$cluster->start_etcd;
	$cluster->poll_until(sub { $cluster->is_leader('n1') }, 20, 'n1 to lead again');
}
unchanged('etcd comes and goes', lines => 3 * 6);

mark();
$cluster->kill_etcd('e2', 'e3');
$cluster->wait_for_status('n1', 'n1', { state => 'open', detail => qr/^leads by the members' promises since / });
pass('no quorum: the leader leads by promises, and its status says so');
pass_time(12, 'more than two TTLs');
$cluster->start_etcd('e2', 'e3');
$probers->wait_for_ack('n1', now_us());
$cluster->poll_until(sub { $cluster->is_leader('n1') }, 20, 'n1 to lead again');
foreach my $node ($cluster->nodes)
{
	my @lines = lines($node);
	is(scalar(grep { /LOG:  cannot use etcd: / } @lines), 1, "no quorum: one line in the log of $node");
	is(scalar(grep { /LOG:  etcd can be used again, at / } @lines), 1, "and one when it is over");
}
unchanged('no quorum for a while', lines => 10);
$probers->check('quorum lost');

done_testing();
