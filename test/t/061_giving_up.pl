# A leader that can tell that it serves nobody lets another lead: one whose disk takes
# no write, one that has no room for WAL, one that its followers do not reach while
# its commits wait for them.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(must_run);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, settings => {
		'pg_elector.disk_timeout' => '2s', wal_recycle => 'off' })->build;

# The data directory of n1 gets a volume of its own.
my $data  = $cluster->data('n1');
my $image = $cluster->base . '/volume';
my $frozen = 0;
my $mounted = 0;

sub thaw { must_run({}, 'fsfreeze', '--unfreeze', $data) if $frozen; $frozen = 0; return }

END
{
	local $?;
	thaw();
	$cluster->teardown if $cluster;
	must_run({}, 'umount', $data) if $mounted;
}

sub move_to_volume
{
	$cluster->stop('n1');
	must_run({}, 'truncate', '--size', '512M', $image);
	must_run({}, 'mkfs.ext4', '-q', '-m', '0', $image);
	rename $data, "$data.before" or die "$data: $!";
	mkdir $data or die "$data: $!";
	must_run({}, 'mount', '-o', 'loop', $image, $data);
	$mounted = 1;
	rmdir "$data/lost+found";
	must_run({}, 'cp', '-a', "$data.before/.", $data);
	must_run({}, 'rm', '-r', "$data.before");
	$cluster->start('n1');
	$cluster->remember;
	return;
}

sub lead
{
	my ($node) = @_;
	$cluster->wait_for_follower($_) foreach grep { $_ ne $cluster->leader } $cluster->nodes;
	$cluster->psql($node, "SELECT elector_switchover('$node')", timeout => 60)
	  unless $cluster->leader eq $node;
	$cluster->wait_for_writable($node, 30);
	$cluster->wait_for_follower($_) foreach grep { $_ ne $node } $cluster->nodes;
	return;
}

sub reason
{
	my ($node) = @_;
	return $cluster->psql($node, 'SELECT reason FROM elector_history ORDER BY term DESC LIMIT 1');
}

# How many say that the leader of the term does not answer them?
sub missing
{
	my ($term) = @_;
	my %keys = $cluster->etcd_keys;
	return scalar grep { ($keys{"alive/$_"} // '') =~ /"misses"\s*:\s*"?$term\b/ } qw(n2 n3);
}

move_to_volume();
lead('n1');

# The disk hangs: what is being committed hangs with it, and nobody is told that it is.
{
	my $term    = $cluster->term('n1');
	my $session = $cluster->session('n1');
	my $offset  = $cluster->log_offset('n1');
	$session->query('SELECT 1');
	must_run({}, 'fsfreeze', '--freeze', $data);
	$frozen = 1;
	$session->send('INSERT INTO rows (n) VALUES (-1)');
	$cluster->wait_log('n1', qr/the disk has not taken a write for 2000 ms/, $offset, 20);
	my $new = $cluster->wait_for_leader(exclude => 'n1');
	$cluster->wait_for_writable($new, 30);
	is($cluster->term($new), $term + 1, 'disk stuck: another leads');
	thaw();
	my $result = $session->finish(60);
	ok(!$result->{ok}, 'the commit that hung is not acknowledged');
	$cluster->wait_for_follower('n1');
	is($cluster->psql($new, 'SELECT count(*) FROM rows WHERE n = -1'), 0, 'nor is it there');
	$cluster->check_whole('disk stuck');
}

# There is no room for another WAL segment.
{
	lead('n1');
	my $term = $cluster->term('n1');
	my ($left) = (must_run({}, 'df', '--output=avail', '-B1', $data) =~ /(\d+)\s*$/);
	must_run({}, 'fallocate', '--length', $left - 20 * 1024 * 1024, "$data/filler");
	my $new = $cluster->wait_for_leader(exclude => 'n1');
	$cluster->wait_for_writable($new, 30);
	is($cluster->term($new), $term + 1, 'WAL volume full: another leads');
	is(reason($new), 'leader full', 'the history says why');
	$cluster->wait_for_follower('n1');
	$cluster->poll_until(sub { ($cluster->status_of($new, 'n1')->{detail} // '') =~ /no room for WAL/ }, 20, 'n1 to have no room');
	my $refused = $cluster->try_psql($new, q{SELECT elector_switchover('n1')}, timeout => 60);
	like($refused->{err}, qr/the target has no room for WAL/, 'and no switchover to it is made');

	unlink "$data/filler";
	$cluster->poll_until(sub { ($cluster->status_of($new, 'n1')->{detail} // '') eq '' }, 20, 'n1 to have room again');
	$cluster->check_whole('WAL volume full');
}

# Followers do not reach the leader, which reaches etcd.
{
	lead('n1');
	my $term = $cluster->term('n1');
	$cluster->cut('n1', from => 'peers');
	$cluster->poll_until(
		sub { missing($term) == 2 },
		30, 'both followers to miss it');
	is($cluster->term('n1'), $term, 'async: a leader that its followers do not reach stays, since its rows are nowhere else');
	$cluster->heal('n1');
	$cluster->poll_until(
		sub { missing($term) == 0 },
		30, 'both followers to reach it again');

	$cluster->set_durability('any 1');
	$term = $cluster->term('n1');
	my $session = $cluster->session('n1');
	$session->query('SELECT 1');
	$cluster->cut('n1', from => 'peers');
	$session->send('INSERT INTO rows (n) VALUES (-2)');
	my $new = $cluster->wait_for_leader(exclude => 'n1', timeout => 60);
	$cluster->wait_for_writable($new, 30);
	is($cluster->term($new), $term + 1, 'any 1: while its commits wait, others do without it');
	is(reason($new), 'leader resigned', 'the history says why');
	ok(!$session->finish(30)->{ok}, 'the commit that waited is not acknowledged');
	$cluster->heal('n1');
	$cluster->wait_for_follower('n1');
	$cluster->check_whole('cut off from followers');
}
$cluster->check_history('in the end');
done_testing();
