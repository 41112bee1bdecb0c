# What the servers' own configuration does to recovery.  Files that cannot be
# loaded when the leader dies: another node leads all the same, and the rest says
# why it does not follow.  An archive that every node restores from, with the
# history of timelines that a node's WAL is not on: it comes up and is rewound.  A
# new node that has its WAL from nowhere else.
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
$cluster->teardown;

#
# An archive.
#
$cluster = ElectorCluster->new(nodes => 3, settings => { 'pg_elector.cold_start_wait' => '1s' });
my $archive = $cluster->base . '/archive';
mkdir $archive;
chown $cluster->{uid}, $cluster->{gid}, $archive;
my $restore = "cp $archive/%f %p";
$cluster->{settings} = {
	%{ $cluster->{settings} },
	archive_mode    => 'on',
	archive_command => "test ! -f $archive/%f && cp %p $archive/%f",
	restore_command => $restore };
$cluster->build;
is($cluster->psql('n3', 'SHOW restore_command'), $restore, 'archive: it is in force while a node follows');

# n3 has what n2, which leads next, has not; its last restartpoint is beyond
# where the timelines part.
$cluster->stop('n2');
$cluster->psql('n1', 'INSERT INTO rows (n) SELECT generate_series(1, 1000)');
$cluster->psql('n1', 'CHECKPOINT');
$cluster->wait_for_follower('n3');
$cluster->psql('n3', 'CHECKPOINT');
$cluster->stop('n3');
$cluster->kill_postmaster('n1');
$cluster->wait_for_no_process('n1');
$cluster->start('n2');
is($cluster->wait_for_leader(timeout => 30), 'n2', 'archive: n2 leads');
my $history = sprintf '%s/%08X.history', $archive, $cluster->psql('n2', "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int");
$cluster->psql('n2', 'SELECT pg_switch_wal()');
$cluster->poll_until(sub { -e $history }, 20, "$history");
my $offset = $cluster->log_offset('n3');
$cluster->start('n3');
is($cluster->wait_for_follower('n3'), 'n2', 'archive: a node with another history follows');
like($cluster->log_since('n3', $offset), qr/rewinding the data directory/, 'archive: it was rewound');
$cluster->start('n1');
is($cluster->wait_for_follower('n1'), 'n2', 'archive: and so does the old leader');

# A backup without WAL, which the leader has elsewhere by now.  What the leader
# has set restore_command to must not be in its way.
like(read_file($cluster->data('n2') . '/postgresql.auto.conf'), qr/^restore_command = ''$/m,
	'backup: the leader has switched restore_command off');
$cluster->add_node('n4', from => 'n2', wal => 'none');
foreach (1 .. 2)
{
	$cluster->psql('n2', 'INSERT INTO rows (n) VALUES (-1)');
	my $segment = $cluster->psql('n2', 'SELECT pg_walfile_name(pg_switch_wal())');
	$cluster->poll_until(sub { -e "$archive/$segment" }, 20, "$segment in the archive");
}
$cluster->set_line('n4', 'restore_command', "sleep 0.2; $restore");
$cluster->start('n4');
is($cluster->wait_for_follower('n4'), 'n2', 'backup: it is made whole, and follows');
like($cluster->log_since('n4'), qr/restored log file .* consistent recovery state .* parameter "restore_command" changed to ""/s,
	'backup: from the archive, before it is asked to follow nobody');

# What ALTER SYSTEM has set comes back.
my $own = "$restore # of n4";
$cluster->psql('n4', "ALTER SYSTEM SET restore_command = '$own'");
$cluster->psql('n2', q{SELECT elector_switchover('n1')});
is($cluster->wait_for_leader(exclude => 'n2', timeout => 30), 'n1', 'ALTER SYSTEM: n1 leads');
$cluster->wait_for_follower($_) foreach qw(n2 n3 n4);
is($cluster->psql('n4', 'SHOW restore_command'), $own, 'ALTER SYSTEM: in force after a change');
$cluster->restart('n4');
$cluster->wait_for_follower('n4');
is($cluster->psql('n4', 'SHOW restore_command'), $own, 'ALTER SYSTEM: and after a restart');
is($cluster->psql('n3', 'SHOW restore_command'), $restore, 'that of the file, too, where it is in force');

done_testing();
