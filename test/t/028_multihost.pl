# libpq with all hosts, as psql and pgbench use it: from the moment a new leader
# has taken one connection every new one finds it, also while the old leader comes
# back; and what a silent machine costs with and without time-outs.
#
# One exception is libpq's own: it tries the next host when a server refuses or
# does not answer, but not when one ends in the middle of letting it in.  So each
# stop of the old leader may cost one attempt.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(run_command spawn process_alive wait_gone);
use Test::More;

my $cluster = ElectorCluster->new(nodes => 3, ttl => '5s')->build;
my $probers = $cluster->start_probers;
my $hosts   = 'host=' . join(',', map { $cluster->address($_) } $cluster->nodes) . ' port=5432 dbname=postgres';
my $all     = "$hosts user=app target_session_attrs=read-write";
my %node_of = map { $cluster->address($_) => $_ } $cluster->nodes;

# A new connection that writes; where it ended up, or ''.
sub attempt
{
	my ($conninfo, $timeout) = @_;
	my $since  = now();
	my $result = $cluster->try_psql(undef, 'INSERT INTO rows (n) VALUES (0) RETURNING host(inet_server_addr())',
		conninfo => $conninfo, timeout => $timeout);
	return { node => $result->{ok} ? $node_of{ $result->{out} } : '', err => $result->{err},
		timed_out => $result->{timed_out}, ms => int(1000 * (now() - $since)) };
}

# New connections one after the other, from a change until the old leader follows
# (back is called once the new one has taken a connection) and ten more.
sub check_change
{
	my ($name, $old, $back) = @_;
	my $since = now();
	my $ended = qr/"\Q@{[ $cluster->address($old) ]}\E", port 5432 failed: server closed the connection unexpectedly/;
	my ($found, $new, $followed, @late);
	my ($good, $more, $cut_off, $longest) = (0, 0, 0, 0);

	while ($more < 10)
	{
		my $attempt = attempt("$all connect_timeout=2", 10);
		die "$name: no leader was found\n" if now() > $since + 60;
		if (!$found)
		{
			next if $attempt->{node} eq '' || $attempt->{node} eq $old;
			($found, $new) = (now() - $since, $attempt->{node});
			$back->() if $back;
		}
		if ($attempt->{node} eq $new) { $good++ }
		elsif ($attempt->{err} =~ $ended) { $cut_off++ }
		else { push @late, "$attempt->{node} after $attempt->{ms} ms: $attempt->{err}" }
		$longest = $attempt->{ms} if $attempt->{ms} > $longest;

		if ($followed) { $more++; next }
		my $row = $cluster->status_of($new, $old);
		$followed = $row && $row->{state} eq 'streaming';
	}
	is("@late", '', "$name: once there is a leader every new connection finds it ($good)");
	cmp_ok($cut_off, '<', 4, "$name: but for stops of the old leader ($cut_off)");
	note(sprintf '%s: found after %d ms; longest attempt after that %d ms', $name, 1000 * $found, $longest);
	return ($new, int(1000 * $found));
}

# pgbench -C makes a connection for each transaction.
sub pgbench
{
	return ($cluster->network->on('client'), $cluster->bindir . '/pgbench', '-n', '-C', '-c', '2',
		@_, "$hosts user=app target_session_attrs=read-write connect_timeout=2");
}

sub processed
{
	my ($text) = @_;
	return $text =~ /number of transactions actually processed: (\d+)/ ? $1 : die "pgbench says: $text\n";
}

# The first host of the list is silent.  A session that waits for it, with and
# without time-outs.
my $session  = $cluster->session('all', over => 'net', conninfo => "$all tcp_user_timeout=2000 keepalives_idle=1 keepalives_interval=1");
my $patient  = $cluster->session('all', over => 'net', conninfo => $all);
$cluster->cut('n1');
$_->send('INSERT INTO rows (n) VALUES (0)') foreach ($session, $patient);
ok(!$session->finish(20)->{alive}, 'silent machine: tcp_user_timeout ends a session');
my ($leader, $found) = check_change('silent machine', 'n1', sub {
	my $attempt = attempt($all, 4);
	ok($attempt->{timed_out}, 'silent machine: without connect_timeout a new connection waits');
	ok($patient->finish(0.1)->{timed_out}, 'silent machine: without tcp_user_timeout a session waits');
	$attempt = attempt("$all connect_timeout=2", 10);
	ok($attempt->{node} ne '' && $attempt->{ms} < 4000,
		"silent machine: with connect_timeout=2 it finds the leader ($attempt->{ms} ms)");
	$cluster->heal('n1');
});

# Switchover.
my ($target) = grep { $_ ne $leader } $cluster->nodes;
$cluster->wait_for_follower($target);
$cluster->psql($leader, "SELECT elector_switchover('$target')");
my $old = $leader;
($leader, $found) = check_change('switchover', $old);
is($leader, $target, 'switchover: the target was found');
cmp_ok($found, '<', 4000, "switchover: without waiting for a lease ($found ms)");

# Failover.
$old = $leader;
$cluster->kill_postmaster($old);
($leader, $found) = check_change('failover', $old, sub {
	$cluster->wait_for_no_process($old);
	$cluster->start($old, no_wait => 1);
});
cmp_ok($found, '<', 4000, "failover: without waiting for a lease ($found ms)");
$cluster->wait_for_follower($old);
$cluster->remember($old);

# pgbench ends with the first error, soon; what it was told of is there.  Started
# again it finds the new leader.
$cluster->psql($leader, 'GRANT CREATE ON SCHEMA public TO app');
my $out = $cluster->base . '/pgbench.log';
my $result = run_command({ timeout => 120 }, $cluster->network->on('client'), $cluster->bindir . '/pgbench', '-i', '-q',
	"$hosts user=app target_session_attrs=read-write connect_timeout=2");
ok($result->{ok}, 'pgbench -i finds the leader') or diag($result->{err});
my $pid = spawn({ log => $out }, pgbench('-T', '600', '-P', '1'));
$cluster->poll_until(sub { $cluster->psql($leader, 'SELECT count(*) FROM pgbench_history') > 20 }, 20, 'pgbench to work');
($target) = grep { $_ ne $leader } $cluster->nodes;
$cluster->wait_for_follower($target);
$cluster->psql($leader, "SELECT elector_switchover('$target')");
ok(wait_gone(30, $pid), 'pgbench -C ends at a switchover');
my $done = processed(read_file($out));
is($cluster->wait_for_leader(exclude => $leader), $target, 'the target leads');
$cluster->wait_for_follower($leader);
my $rows = $cluster->psql($target, 'SELECT count(*) FROM pgbench_history');
ok($rows >= $done && $rows <= $done + 2, "its transactions are there ($done, $rows)");
$result = run_command({ timeout => 60 }, pgbench('-t', '25'));
ok($result->{ok}, 'pgbench -C started again finds the target') or diag($result->{err});
is($cluster->psql($target, 'SELECT count(*) FROM pgbench_history'), $rows + 50, 'and all its transactions are there');

$cluster->check_whole('several hosts');
$probers->check('several hosts');

done_testing();
