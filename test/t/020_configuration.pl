# What the servers' own configuration does to recovery.  Files that cannot be
# loaded when the leader dies: another node leads all the same, and the rest says
# why it does not follow.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3)->build;
my $writer  = $cluster->start_writer;
my $probers = $cluster->start_probers;
my %offset  = map { $_ => $cluster->log_offset($_) } $cluster->nodes;

$cluster->append($_, 'postgresql.conf', "work_mem = = 4MB\n") foreach qw(n2 n3);
$cluster->kill_postmaster('n1');
my $new = $cluster->wait_for_leader(exclude => 'n1');
my ($other) = grep { $_ ne $new } qw(n2 n3);
ok($new, "files with an error: $new leads");
ok($cluster->wait_for_status($new, $other, { state => 'connecting', detail => qr/the configuration cannot be loaded/ }),
	'files with an error: elector_status of the other one says so');
foreach my $node (qw(n2 n3))
{
	my @said = $cluster->log_since($node, $offset{$node}) =~ /WARNING:  the configuration cannot be loaded/g;
	is(scalar @said, 1, "files with an error: the log of $node says so once");

	# The startup process goes by its old settings and must not try at every wink.
	my @tried = $cluster->log_since($node, $offset{$node}) =~ /this node does not follow that server now/g;
	cmp_ok(scalar @tried, '<', 40, "files with an error: $node has tried " . @tried . ' times to stream');
}

foreach my $node (qw(n2 n3))
{
	my $path = $cluster->data($node) . '/postgresql.conf';
	write_file($path, read_file($path) =~ s/^work_mem = = 4MB\n//mr);
	$cluster->run_on($node, {}, 'pg_ctl', '-D', $cluster->data($node), 'reload');
}
is($cluster->wait_for_follower($other), $new, 'corrected: the other one follows');
is($cluster->status_of($new, $other)->{detail}, undef, 'corrected: elector_status has nothing to say');
$cluster->wait_for_no_process('n1');
$cluster->start('n1');
$cluster->remember;
$cluster->check_end('configuration', $writer, $probers, losses => 1);

done_testing();
