# What clients meet when it is doubtful whether they may be answered: a leader whose
# lease etcd has not confirmed in time has them wait for a while; a standby whose
# history is not verified, or that is too far behind, refuses reads, as it was told to.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my $cluster = ElectorCluster->new(nodes => 2, ttl => '20s', settings => {
		'pg_elector.lease_margin' => '8s', 'pg_elector.failsafe' => 'off' })->build;
my $term = $cluster->term('n1');

sub waits
{
	my ($session, $what) = @_;
	$cluster->poll_until(sub { $cluster->wait_event('n1', $session->backend) eq 'Extension' }, 5, "$what to wait");
	return;
}

# The leader does not reach etcd, for less than the lease.
{
	my %session = map { $_ => $cluster->session('n1') } qw(statement commit canceled hasty brief);
	$_->backend foreach values %session;
	$session{$_}->query(q{SET pg_elector.lease_wait = '5min'}) foreach qw(statement commit canceled);
	$session{hasty}->query('SET pg_elector.lease_wait = 0');
	$session{brief}->query(q{SET pg_elector.lease_wait = '300ms'});
	ok($session{commit}->query('BEGIN')->{ok} && $session{commit}->query('INSERT INTO rows (n) VALUES (-1)')->{ok},
		'a transaction is open');

	$cluster->cut('n1', from => 'etcd');
	$cluster->poll_until(sub { $session{hasty}->query('SELECT 1')->{sqlstate} eq '25006' }, 15, 'the gate to close');
	$session{statement}->send('INSERT INTO rows (n) VALUES (-2)');
	$session{commit}->send('COMMIT');
	$session{canceled}->send('SELECT 1');
	waits($session{$_}, $_) foreach qw(statement commit canceled);
	is($session{hasty}->query('INSERT INTO rows (n) VALUES (-3)')->{sqlstate}, '25006', 'without patience it fails at once');
	is($session{brief}->query('INSERT INTO rows (n) VALUES (-4)')->{sqlstate}, '25006', 'with little it fails soon');
	$cluster->psql('n1', 'SELECT pg_cancel_backend(' . $session{canceled}->backend . ')');
	is($session{canceled}->finish->{sqlstate}, '57014', 'who waits can be cancelled');

	$cluster->heal('n1');
	ok($session{statement}->finish(20)->{ok}, 'the statement goes on when etcd is back');
	ok($session{commit}->finish(20)->{ok}, 'so does the commit');
	is($cluster->psql('n1', 'SELECT string_agg(n::text, \',\' ORDER BY n DESC) FROM rows WHERE n < 0'), '-1,-2', 'and both are there');
	is($cluster->term('n1'), $term, 'in the same term');
}

# Closed on purpose it stays closed: nobody waits.
{
	my $session = $cluster->session('n1');
	$session->query(q{SET pg_elector.lease_wait = '5min'});
	$cluster->psql('n2', q{SELECT elector_switchover('n2')}, timeout => 60);
	my $result = $session->query('INSERT INTO rows (n) VALUES (-5)');
	ok(!$result->{timed_out} && !$result->{ok}, 'after a switchover nobody waits at the old leader');
	$cluster->wait_for_follower('n1');
}

# The leader is n2 now, and n1 its standby.  Is what it shows new enough?
{
	my $result = $cluster->try_psql('n1', q{ALTER SYSTEM SET pg_elector.max_staleness = '10ms'});
	like($result->{err}, qr/0 or at least 100 ms/, 'a bound that cannot be kept is refused');
	my $reader = $cluster->session('n1');
	$cluster->reload_line('n1', 'pg_elector.max_staleness', '500ms');
	$cluster->poll_until(sub { $reader->query('SELECT count(*) FROM rows')->{ok} }, 10, 'reads within the bound');

	$cluster->psql('n1', 'SELECT pg_wal_replay_pause()');
	$cluster->poll_until(sub { $cluster->psql('n1', 'SELECT pg_get_wal_replay_pause_state()') eq 'paused' }, 10, 'replay to pause');
	$cluster->psql('n2', 'INSERT INTO rows (n) VALUES (-6)');
	my $answer;
	$cluster->poll_until(sub { $answer = $reader->query('SELECT count(*) FROM rows'); !$answer->{ok} }, 10, 'reads to be refused');
	is($answer->{sqlstate}, '25006', 'a standby that does not replay refuses reads');
	like($answer->{err}, qr/may lack what was committed more than 500 ms ago/, 'and says why');
	is(($cluster->ask('n1', 'SELECT 1'))[0], '57P03', 'it lets nobody in');
	is($cluster->psql('n1', 'SELECT count(*) FROM rows WHERE n = -6'), 0, 'but admins');
	$cluster->psql('n1', 'SELECT pg_wal_replay_resume()');
	$cluster->poll_until(sub { $reader->query('SELECT count(*) FROM rows')->{ok} }, 10, 'reads after it has caught up');
	is($reader->query('SELECT count(*) FROM rows WHERE n = -6')->{out}, 1, 'which show the row');

	# Who does not hear of the leader does not know how old it is.
	$cluster->cut('n1', from => 'n2');
	$cluster->poll_until(sub { $answer = $reader->query('SELECT count(*) FROM rows'); !$answer->{ok} }, 10, 'reads to be refused');
	like($answer->{err}, qr/may lack what was committed/, 'so does one that is cut off from the leader');
	$cluster->reload_line('n1', 'pg_elector.max_staleness', '0');
	$cluster->poll_until(sub { $reader->query('SELECT count(*) FROM rows')->{ok} }, 10, 'reads without a bound');
	$cluster->heal('n1');
}

# Is its history verified?
{
	my $reader = $cluster->session('n1');
	ok($reader->query('SELECT count(*) FROM rows')->{ok}, 'the standby reads');
	$cluster->cut('n1', from => 'etcd');
	$cluster->poll_until(sub { $reader->query('SELECT count(*) FROM rows')->{sqlstate} eq '25006' }, 60,
		'reads to be refused');
	$cluster->reload_line('n1', 'pg_elector.standby_reads', 'always');
	$cluster->poll_until(sub { $reader->query('SELECT count(*) FROM rows')->{ok} }, 10, 'reads always');
	is(($cluster->ask('n1', 'SELECT 1'))[0], 'ok', 'new sessions, too');
	$cluster->reload_line('n1', 'pg_elector.standby_reads', 'verified');
	$cluster->poll_until(sub { !$reader->query('SELECT count(*) FROM rows')->{ok} }, 10, 'reads only of what is verified');
	$cluster->heal('n1');
	$cluster->poll_until(sub { $reader->query('SELECT count(*) FROM rows')->{ok} }, 30, 'reads when etcd is back');
}
$cluster->remember;
$cluster->check_whole('in the end');
done_testing();
