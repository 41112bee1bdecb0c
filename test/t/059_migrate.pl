# docs/migrating.md: a cluster of plain streaming replication becomes one that elects its
# own primary, under a writer, by one restart of the primary; and back.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, plain => 1, settings => { max_replication_slots => 10 })->build;
my $writer  = $cluster->start_writer;
$writer->wait_for_acks(50);

# How long, at most, the writer had no answer in that time, in milliseconds.
sub longest_pause
{
	my ($since) = @_;
	my ($longest, $last) = (0, undef);
	foreach my $line (split /\n/, read_file($writer->{log}))
	{
		my ($at) = (split / /, $line)[3];
		next unless $line =~ /^A / && $at;
		$longest = $at - $last if defined $last && $at > $since && $at - $last > $longest;
		$last = $at;
	}
	return int($longest / 1000);
}

sub lines
{
	my ($node) = @_;
	return (
		shared_preload_libraries => 'pg_elector', 'pg_elector.cluster' => 'orders', 'pg_elector.node' => $node,
		'pg_elector.etcd' => $cluster->endpoints, 'pg_elector.conninfo' => $cluster->node_conninfo($node),
		'pg_elector.lease_ttl' => '2s', 'pg_elector.failover_cooldown' => '0s');
}

# The extension comes first, and goes to the standbys by replication.
$cluster->psql('n1', 'CREATE EXTENSION pg_elector');

# The primary first: it is the only one there is, and elected.
my %lines;
%lines = lines('n1');
$cluster->set_line('n1', $_, $lines{$_}) foreach sort keys %lines;
my $since = now_us();
$cluster->restart('n1');
$cluster->{plain} = 0;
$cluster->poll_until(sub { $cluster->is_leader('n1') }, 30, 'n1 to lead');
$writer->wait_for_acks(20);
my $pause = longest_pause($since);
note("$pause ms without writes");
pass('the primary is restarted, and leads');
cmp_ok($pause, '<', 15000, 'writes stopped only for the time of a restart and an election');

# The standbys stream all the time, with and without the library.
foreach my $node (qw(n2 n3))
{
	$cluster->poll_until(
		sub { $cluster->psql('n1', q{SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND client_addr = '} . $cluster->address($node) . q{'}) == 1 },
		30, "$node to stream from what is the leader now");
	pass("$node, a plain standby, streams from the leader");
	%lines = lines($node);
	$cluster->set_line($node, $_, $lines{$_}) foreach sort keys %lines;
	$cluster->restart($node);
	is($cluster->wait_for_follower($node), 'n1', "$node is restarted, and follows");
}
is($cluster->term('n1'), 1, 'nobody else has led');

# It is a cluster like any other.
my $old = 'n1';
$cluster->kill_postmaster($old);
my $new = $cluster->wait_for_leader(exclude => $old);
ok($new, "the leader is killed: $new leads");
$cluster->wait_for_no_process($old);
$cluster->start($old);
is($cluster->wait_for_follower($old, 60), $new, 'and the old one follows');
$writer->wait_for_acks(20);

#
# Back: see docs/installing.md.
#
my @followers = grep { $_ ne $new } qw(n1 n2 n3);
$cluster->stop($_) foreach (@followers, $new);
foreach my $node (qw(n1 n2 n3))
{
	my $auto = $cluster->data($node) . '/postgresql.auto.conf';
	write_file($auto, join '', grep { !/^(?:primary_conninfo|primary_slot_name|restore_command|synchronous_standby_names|pg_elector\.)/ }
		  map { "$_\n" } split /\n/, read_file($auto));
	$cluster->set_line($node, $_, undef) foreach grep { $_ ne '' } sort keys %lines;
	unlink $cluster->data($node) . '/standby.signal' if $node eq $new;
	$cluster->set_line($node, 'primary_conninfo', $cluster->node_conninfo($new)) if $node ne $new;
}
$cluster->{plain} = 1;
$cluster->start($_) foreach ($new, @followers);
is($cluster->psql($new, 'SELECT pg_is_in_recovery()'), 'f', "back: $new is the primary, without the library");
$cluster->poll_until(sub { $cluster->psql($new, q{SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'}) == 2 }, 30, 'the others to stream');
pass('back: the others stream from it');
$writer->wait_for_acks(20);
$writer->stop;
$writer->check_rows($new, name => 'moved over, and back', losses => 1);

done_testing();
