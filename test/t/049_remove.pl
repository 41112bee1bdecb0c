# elector_remove_member(): who is refused and why; a member that is gone for good is no
# more part of the durability rule, has no slots, and holds no election up; started
# again it is a member again.
use strict;
use warnings;

use ElectorCluster;
use JSON::PP qw(decode_json);
use Test::More;

my $cluster = ElectorCluster->new(
	nodes    => 3,
	ttl      => '2s',
	settings => { 'pg_elector.durability' => 'any 1', 'pg_elector.follower_timeout' => '1h' })->build;
my $backup = $cluster->base . '/backup';

sub refused
{
	my ($on, $node, $why, $name, %opts) = @_;
	my $result = $cluster->try_psql($on, "SELECT elector_remove_member('$node')", %opts);
	ok(!$result->{ok}, "refused: $name");
	like($result->{err}, $why, "which says why: $name");
	return;
}

sub members { return join ' ', sort map { m{^members/(.*)} ? $1 : () } keys %{ { $cluster->etcd_keys } } }

# The members that the rule in force counts, as etcd has it.
sub counted
{
	my %keys   = $cluster->etcd_keys;
	my $record = decode_json($keys{durability});
	return $record->{changing} ? '' : join ' ', sort map { $_->{node} } @{ $record->{rule}{members} };
}

sub slots { my ($node) = @_; return $cluster->psql($node, q{SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots}) }

sub remove_member
{
	my ($on, $node) = @_;
	$cluster->wait_for_status($on, $node, { state => 'down' });
	$cluster->psql($on, "SELECT elector_remove_member('$node')");
	return;
}

$cluster->poll_until(sub { counted() eq 'n1 n2 n3' }, 20, 'the rule to count all');
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
$writer->wait_for_acks(10);

#
# Who is there stays.
#
refused('n2', 'n9',    qr/55000: cannot remove "n9": it is no member of the cluster; elector_status shows the members/, 'who is no member');
refused('n2', 'n1',    qr/cannot remove "n1": it is the leader; switch over to another member/, 'the leader');
refused('n2', 'n3',    qr/cannot remove "n3": it is alive, and would come back; stop it first/, 'a follower');
refused('n2', 'n2',    qr/cannot remove "n2": it is alive/, 'the node itself');
refused('n2', 'n3/..', qr/22023: "n3\/\.\." is not the name of a node/, 'what is no name');
refused('n1', 'n3',    qr/42501: permission denied for function elector_remove_member/, 'by who may not', user => 'app');

# Its lease in etcd is over, but it still acknowledges.
$cluster->cut('n3', from => 'etcd');
$cluster->poll_until(sub { !exists { $cluster->etcd_keys }->{'alive/n3'} }, 30, 'the lease of n3 to end');
refused('n1', 'n3', qr/cannot remove "n3": it is alive/, 'one that is cut off from etcd only');
$cluster->heal('n3');
$cluster->wait_for_follower('n3');
is(members(), 'n1 n2 n3', 'nobody was removed');

#
# One that is gone.
#
$cluster->kill_all('n3');
refused('n2', 'n3', qr/cannot remove "n3": it is alive/, 'one that has just died: it may come back');
remove_member('n2', 'n3');
is(members(), 'n1 n2', 'a member that is gone is removed');
refused('n2', 'n3', qr/it is no member/, 'a second time');
$cluster->poll_until(sub { counted() eq 'n1 n2' }, 20, 'the leader to take it out of the rule');
pass('the durability rule does not count it any more, long before follower_timeout');
is($cluster->psql('n1', 'SHOW synchronous_standby_names'), 'ANY 1 ("n2")', 'synchronous_standby_names does without it');
is($cluster->psql('n1', q{SELECT string_agg(node, ' ' ORDER BY node) FROM elector_status}), 'n1 n2', 'elector_status has the others');
$cluster->poll_until(sub { slots('n1') eq 'pg_elector_n2' && slots('n2') eq 'pg_elector_n1' }, 20, 'its slots to be dropped');
pass('its slots are dropped');
$writer->wait_for_acks(10);

# Back again.
$cluster->revive('n3');
$cluster->start('n3');
$cluster->wait_for_follower('n3', 60);
$cluster->remember('n3');
is(members(), 'n1 n2 n3', 'started again it is a member again');
$cluster->poll_until(sub { counted() eq 'n1 n2 n3' }, 30, 'the rule to count it again');

#
# No leader: an election waits for its commits, and has to be able to say so.
#
$cluster->kill_all($_) foreach qw(n1 n3);
$cluster->wait_for_status('n2', $_, { state => 'down' }) foreach qw(n1 n3);
refused('n2', 'n3', qr/there is no leader, and acknowledged commits may be on that member only; see elector_failover\(\)/,
	'one that an election waits for');
foreach my $node (qw(n1 n3))
{
	$cluster->revive($node);
	$cluster->start($node);
}
my $leader = $cluster->wait_for_leader(timeout => 40);
$cluster->wait_for_follower($_, 60) foreach grep { $_ ne $leader } $cluster->nodes;
$cluster->remember;
$writer->wait_for_acks(10);

#
# etcd is restored from a backup, and one that must answer is gone.
#
$cluster->etcdctl('snapshot', 'save', $backup);
my ($next, $gone) = grep { $_ ne $leader } $cluster->nodes;
$cluster->psql($leader, "SELECT elector_switchover('$next')");
$cluster->wait_for_leader(exclude => $leader, timeout => 30);
$cluster->wait_for_follower($_, 60) foreach ($leader, $gone);
$writer->wait_for_acks(10);
my $term = $cluster->term($next);
$cluster->kill_all($gone);
$cluster->restore_etcd($backup);
$cluster->wait_for_status($next, $_, { detail => qr/an answer of every member/ }, 40) foreach $next;
remove_member($next, $gone);
$leader = $cluster->poll_until(sub { my $node = $cluster->leader; defined $node && $cluster->term($node) > $term && $node },
	60, 'a leader of a new term');
pass("restored: an election waited for it; when it is removed, $leader leads");
$cluster->revive($gone);
$cluster->start($gone);
$cluster->wait_for_follower($_, 60) foreach grep { $_ ne $leader } $cluster->nodes;
$cluster->remember;
$cluster->check_end('remove', $writer, $probers);

done_testing();
