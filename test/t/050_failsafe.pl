# Failsafe: without etcd the leader goes on for as long as enough members promise to elect
# nobody else.  All of etcd dead for a minute, and all servers cut off from it until it
# has given the leader's lease up: not one transaction fails, and there is no election.
# With too few to promise it stops at its deadline, and the others elect.  Enough are all
# under async, and under any 1 a single one.
use strict;
use warnings;

use ElectorCluster;
use JSON::PP qw(decode_json);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, etcd => 3, ttl => '3s')->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my $leader  = $cluster->leader;
my $term    = $cluster->term($leader);

sub on_record
{
	my %keys = $cluster->etcd_keys;
	return '' unless defined $keys{failsafe};
	return join ' ', sort map { $_->{node} } @{ decode_json($keys{failsafe})->{members} };
}

sub wait_on_record
{
	my ($nodes, $what) = @_;
	$cluster->poll_until(sub { on_record() eq $nodes }, 20, "the members on record to be $nodes");
	return pass($what);
}

sub errors_since
{
	my ($since, $node) = @_;
	return scalar grep { $_->{at} >= $since && (!defined $_->{node} || $_->{node} eq $node) }
	  ($writer->errors, $writer->unknown, $probers->errors);
}

# What an outage looks like that nobody notices.
sub check_unnoticed
{
	my ($name, $since, $offset) = @_;
	is(errors_since($since, $leader), 0, "$name: not one transaction failed");
	my $gap = $writer->longest_gap(since => $since);
	cmp_ok($gap, '<', 1000, "$name: writes went on (the longest pause was $gap ms)");
	is($cluster->term($leader), $term, "$name: the same term");
	is(scalar $cluster->query_history($leader), $term, "$name: no election");
	my $log = $cluster->log_since($leader, $offset);
	is(scalar(() = $log =~ /failsafe: etcd has not confirmed/g), 1, "$name: one line in the log when it began");
	is(scalar(() = $log =~ /failsafe ends: etcd has confirmed the lease/g), 1, "$name: and one when it ended");
	return;
}

sub leads_by_promises
{
	my ($name) = @_;
	$cluster->wait_for_status($leader, $leader,
		{ state => 'open', detail => qr/^leads by the members' promises since / }, 20);
	return pass("$name: elector_status tells that it leads by promises");
}

# Read, as the application does.
sub reads
{
	my ($node) = @_;
	my ($state) = $cluster->ask($node, 'SELECT count(*) FROM rows');
	return $state eq 'ok';
}

wait_on_record('n1 n2 n3', 'all members are on record');

# All of etcd is dead for a minute: twenty times the TTL.
{
	my $since  = now_us();
	my $offset = $cluster->log_offset($leader);

	$cluster->kill_etcd;
	leads_by_promises('etcd dead');
	$cluster->poll_until(sub { now_us() - $since > 60e6 }, 90, 'a minute to pass');
	is(errors_since($since, $leader), 0, 'etcd dead: after a minute not one transaction has failed');
	ok(reads($_), "etcd dead: $_ answers reads") foreach grep { $_ ne $leader } $cluster->nodes;
	$cluster->start_etcd;
	$cluster->wait_log($leader, qr/failsafe ends/, $offset, 30);
	$writer->wait_for_acks(10);
	check_unnoticed('etcd dead', $since, $offset);
}

# etcd lives, and has given the leader's lease up: its key is gone, and is taken again.
{
	my $since  = now_us();
	my $offset = $cluster->log_offset($leader);

	$cluster->cut($_, from => 'etcd') foreach $cluster->nodes;
	$cluster->poll_until(sub { my %keys = $cluster->etcd_keys; !defined $keys{leader} }, 30,
		'etcd to give the lease up');
	leads_by_promises('cut off');
	$cluster->heal($_) foreach $cluster->nodes;
	$cluster->poll_until(sub { my %keys = $cluster->etcd_keys; defined $keys{leader} }, 30,
		'the key to be there again');
	$cluster->wait_log($leader, qr/failsafe ends/, $offset, 30);
	my %keys = $cluster->etcd_keys;
	my $key  = decode_json($keys{leader});
	is("$key->{node} $key->{term}", "$leader $term", 'cut off: healed, it has taken its key again in the same term');
	is(decode_json($keys{term})->{term}, $term, 'cut off: and no other term has begun');
	$writer->wait_for_acks(10);
	check_unnoticed('cut off', $since, $offset);
	$cluster->check_whole('cut off');
}

# A follower dies meanwhile.  Who has to promise and does not stops the leader, until it
# is there again.
{
	my ($dead) = grep { $_ ne $leader } $cluster->nodes;

	$cluster->kill_etcd;
	leads_by_promises('follower dead');
	my $since = now_us();
	$cluster->stop($dead, mode => 'immediate');
	my $refused = $probers->wait_for_close($leader, $since);
	ok($refused, 'follower dead: the leader takes no writes');
	cmp_ok(($refused->{at} - $since) / 1000, '<', 4000, 'follower dead: soon');
	$cluster->wait_for_status($leader, $leader,
		{ state => 'closed', detail => qr/\(not yet: $dead\)/ }, 20);
	pass('follower dead: elector_status names it');
	$cluster->start($dead);
	$probers->wait_for_ack($leader);
	$writer->wait_for_acks(10);
	pass('follower dead: when it is back, the leader goes on, still without etcd');
	$cluster->start_etcd;
	is($cluster->wait_for_follower($dead), $leader, 'follower dead: and is followed when etcd is back');
	is($cluster->term($leader), $term, 'follower dead: in the same term');
	is(scalar $cluster->query_history($leader), $term, 'follower dead: no election');
	$cluster->remember;
}

# Under any 1 one promise is enough, as one acknowledgement is.
{
	my ($dead, $with) = grep { $_ ne $leader } $cluster->nodes;

	wait_on_record('n1 n2 n3', 'any 1: all members are on record');
	$cluster->set_durability('any 1');
	my $since = now_us();
	$cluster->kill_etcd;
	leads_by_promises('any 1');
	$cluster->stop($dead, mode => 'immediate');
	my $stopped = now_us();
	$cluster->poll_until(sub { now_us() - $stopped > 9e6 }, 15, 'three TTLs to pass');
	is(errors_since($since, $leader), 0, 'any 1: a follower died without etcd, and not one transaction failed');
	$cluster->stop($with, mode => 'immediate');
	$cluster->wait_for_status($leader, $leader, { state => 'closed', detail => qr/\(not yet: n\d, n\d\)/ });
	pass('any 1: with none left it closes');
	$cluster->start($with);
	leads_by_promises('any 1, one is back');
	$cluster->start($dead);
	$cluster->start_etcd;
	$probers->wait_for_ack($leader, now_us());
	is($cluster->wait_for_follower($_, 60), $leader, "any 1: $_ follows when etcd is back") foreach $dead, $with;
	is($cluster->term($leader), $term, 'any 1: in the same term');
	is(scalar $cluster->query_history($leader), $term, 'any 1: no election');
	$cluster->set_durability('async');
	$cluster->remember;
}

# The leader is restarted meanwhile: it has no lease and no promises.
{
	wait_on_record('n1 n2 n3', 'all members are still on record');
	$cluster->kill_etcd;
	leads_by_promises('restarted');
	my $since = now_us();
	$cluster->restart($leader);
	my $started = now_us();
	$cluster->poll_until(sub { now_us() - $started > 8e6 }, 15, 'twice the TTL to pass');
	is($probers->first_ack(since => $started), undef, 'restarted: nobody takes a write');
	$cluster->start_etcd;
	$leader = $cluster->wait_for_leader(timeout => 40);
	$writer->wait_for_acks(10);
	is($cluster->term($leader), $term + 1, 'restarted: when etcd is back there is an election');
	$term++;
	$cluster->remember;
	$cluster->check_whole('restarted');
}

# Cut off from everything: nobody promises anything, and the others elect.
{
	my $old   = $leader;
	my $since = now_us();

	wait_on_record('n1 n2 n3', 'the new leader has them on record');
	$cluster->cut($old);
	ok($probers->wait_for_close($old, $since), 'alone: the leader stops');
	$leader = $cluster->wait_for_leader(exclude => $old);
	$probers->wait_for_ack($leader);
	my $first = $probers->first_ack(node => $leader, since => $since);
	my $last  = $probers->last_ack($old, until => $first->{acked});
	cmp_ok($last->{acked}, '<', $first->{acked}, 'alone: its gate was closed before another opened');
	$cluster->heal($old);
	is($cluster->wait_for_follower($old), $leader, 'alone: healed, it follows');
	is($cluster->term($leader), ++$term, 'alone: the next term');
	$cluster->check_whole('alone');
}

# Cut off together with one follower: the other one, with etcd, is elected.
{
	my $old = $leader;
	my ($with, $other) = grep { $_ ne $old } $cluster->nodes;
	my @beyond = ('client', $other, $cluster->members);
	my $since  = now_us();

	wait_on_record('n1 n2 n3', 'all are on record once more');
	$cluster->cut($_, from => \@beyond) foreach $old, $with;
	$leader = $cluster->wait_for_leader(exclude => [ $old, $with ]);
	is($leader, $other, 'too few: the one that has etcd is elected');
	$probers->wait_for_ack($leader);
	my $first = $probers->first_ack(node => $leader, since => $since);
	my $last  = $probers->last_ack($old, until => $first->{acked});
	cmp_ok($last->{acked}, '<', $first->{acked}, 'too few: the leader was closed before');
	$cluster->heal($_) foreach $old, $with;
	is($cluster->wait_for_follower($_), $leader, "too few: healed, $_ follows") foreach $old, $with;
	is($cluster->term($leader), ++$term, 'too few: the next term');
	$cluster->check_whole('too few');
}

# The leader alone is cut off from etcd: it goes on while the others, which see its key,
# promise; when that is gone, another is elected.
{
	my $old   = $leader;
	my $since = now_us();

	$cluster->cut($old, from => 'etcd');
	$leader = $cluster->wait_for_leader(exclude => $old);
	$probers->wait_for_ack($leader);
	my $first = $probers->first_ack(node => $leader, since => $since);
	my $last  = $probers->last_ack($old, until => $first->{acked});
	cmp_ok($last->{acked}, '<', $first->{acked}, 'from etcd only: its gate was closed before another opened');
	$cluster->heal($old);
	is($cluster->wait_for_follower($old), $leader, 'from etcd only: healed, it follows');
	is($cluster->term($leader), ++$term, 'from etcd only: the next term');
}

# Off on one member, it promises nothing; off on the leader, nobody has to.
{
	my ($off, $on) = grep { $_ ne $leader } $cluster->nodes;

	$cluster->reload_line($off, 'pg_elector.failsafe', 'off');
	my $since = now_us();
	$cluster->kill_etcd;
	ok($probers->wait_for_close($leader, $since), 'off on a member: the leader stops');
	$cluster->start_etcd;
	$probers->wait_for_ack($leader);
	wait_on_record('n1 n2 n3', 'off on a member: it stays on record');
	$cluster->reload_line($leader, 'pg_elector.failsafe', 'off');
	wait_on_record('', 'off on the leader: nobody is on record');
	$since = now_us();
	$cluster->kill_etcd;
	ok($probers->wait_for_close($leader, $since), 'off on the leader: it stops');
	$cluster->start_etcd;
	$probers->wait_for_ack($leader);
	$cluster->reload_line($_, 'pg_elector.failsafe', 'on') foreach $off, $leader;
	wait_on_record('n1 n2 n3', 'on again');
	$cluster->remember;
}

$cluster->check_end('failsafe', $writer, $probers, losses => 1);
$cluster->check_history('failsafe');

done_testing();
