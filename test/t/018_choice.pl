# Who is chosen, and who is not: priority among equals, nodes that are no
# candidates, nodes that are too far behind, and how soon after the last change.
use strict;
use warnings;

use ElectorCluster;
use Test::More;

my @all = qw(n1 n2 n3);

sub others { my %not = map { $_ => 1 } @_; return grep { !$not{$_} } @all }

# All followers hold all that the leader has written, so they are equals.
sub level
{
	my ($cluster, $leader) = @_;
	$cluster->wait_for_follower($_) foreach grep { $_ ne $leader } $cluster->nodes;

	# At the boundary of a page the same end of WAL has two names, before the
	# page's header and behind it; another record gets past that.
	my $looks = 0;
	$cluster->poll_until(
		sub {
			$cluster->psql($leader, 'SELECT pg_current_xact_id()') if ++$looks % 25 == 0;
			my $lsn = $cluster->psql($leader, 'SELECT pg_current_wal_lsn()');
			return !grep { $_ ne $lsn } map { $cluster->psql($_, 'SELECT pg_last_wal_replay_lsn()') }
			  grep { $_ ne $leader } $cluster->nodes;
		},
		10, 'all followers to be level');
	return;
}

sub end_and_start
{
	my ($cluster, $node) = @_;
	$cluster->wait_for_no_process($node);
	$cluster->start($node);
	return $cluster->wait_for_follower($node);
}

# Nobody leads although elections are run: the elector that cannot go on gives
# the lock up, so there is a second one.
sub nobody_leads
{
	my ($cluster, $name, $offset, @nodes) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$cluster->poll_until(
		sub {
			my $locks = 0;
			$locks += () = $cluster->log_since($_, $offset->{$_}) =~ /LOG:  lock: /g foreach @nodes;
			return $locks >= 2;
		},
		20, 'a second election');
	is(join(' ', grep { $cluster->is_leader($_) } @nodes), '', "$name: nobody leads");
	return;
}

# Priority.  The higher one leads whoever runs the election, so several times.
{
	my $cluster = ElectorCluster->new(nodes => 3)->build;
	my $leader  = 'n1';

	foreach my $time (1 .. 4)
	{
		my ($low, $high) = others($leader);
		($low, $high) = ($high, $low) if $time % 2;
		$cluster->reload_line($low,  'pg_elector.priority', 50);
		$cluster->reload_line($high, 'pg_elector.priority', 100 + $time);
		$cluster->wait_for_status($leader, $low,  { priority => 50 });
		$cluster->wait_for_status($leader, $high, { priority => 100 + $time });
		level($cluster, $leader);

		$cluster->kill_postmaster($leader);
		my $new = $cluster->wait_for_leader(exclude => $leader);
		my @history = $cluster->query_history($new);
		is($new, $high, "priority $time: the higher one leads ($history[-1]{elector} ran the election)");
		end_and_start($cluster, $leader);
		$leader = $new;
	}

	# A better position counts more: the first of the two does not have it all.
	my ($low, $high) = others($leader);
	$cluster->reload_line($low,  'pg_elector.priority', 0);
	$cluster->reload_line($high, 'pg_elector.priority', 1000);
	$cluster->wait_for_status($leader, $high, { priority => 1000 });
	level($cluster, $leader);
	my $sender = $cluster->psql($leader, "SELECT pid FROM pg_stat_replication WHERE client_addr = '" . $cluster->address($high) . "'");
	kill 'STOP', $sender;
	$cluster->psql($leader, 'INSERT INTO rows (n) VALUES (1)');
	$cluster->wait_for_follower($low);
	$cluster->kill_all($leader);
	is($cluster->wait_for_leader(exclude => $leader), $low, 'priority: a better position counts more');
	is($cluster->psql($low, 'SELECT count(*) FROM rows'), 1, 'priority: so the row is there');
	$cluster->teardown;
}

# Nodes that are no candidates.
{
	my $cluster = ElectorCluster->new(nodes => 3)->build;
	my %offset  = map { $_ => $cluster->log_offset($_) } @all;

	$cluster->reload_line('n3', 'pg_elector.candidate', 'off');
	$cluster->reload_line('n3', 'pg_elector.priority',  1000);
	$cluster->wait_for_status('n1', 'n3', { priority => 1000 });
	level($cluster, 'n1');
	like($cluster->try_psql('n1', q{SELECT elector_switchover('n3')})->{err}, qr/the target is no candidate/,
		'no candidate: not for a switchover either');

	# Alone, it runs elections, and does not lead.
	$cluster->kill_all('n2');
	$cluster->kill_postmaster('n1');
	my $row = $cluster->wait_for_status('n3', 'n3', { state => 'no candidate' });
	like($row->{detail}, qr/may become leader/, 'no candidate: elector_status says so');
	nobody_leads($cluster, 'no candidate', \%offset, 'n3');
	is($cluster->psql('n3', 'SELECT pg_is_in_recovery()'), 't', 'no candidate: it stays a standby');
	$cluster->wait_for_no_process('n1');
	$cluster->start('n1');
	is($cluster->wait_for_leader, 'n1', 'no candidate: one comes back and leads');
	is($cluster->wait_for_follower('n3'), 'n1', 'no candidate: and is followed');
	$cluster->revive('n2');
	$cluster->start('n2');
	$cluster->wait_for_follower('n2');

	# None of two, until one becomes one.
	$cluster->reload_line('n2', 'pg_elector.candidate', 'off');
	$cluster->wait_for_follower($_) foreach qw(n2 n3);
	$cluster->poll_until(
		sub { $cluster->try_psql('n1', q{SELECT elector_switchover('n2')})->{err} =~ /the target is no candidate/ },
		10, 'n2 to be no candidate');
	level($cluster, 'n1');
	$cluster->kill_postmaster('n1');
	$cluster->poll_until(
		sub {
			grep { ($cluster->status_of($_, $_) // {})->{state} eq 'no candidate' } qw(n2 n3);
		},
		20, 'a node that says that there is no candidate');
	%offset = map { $_ => $cluster->log_offset($_) } @all;
	nobody_leads($cluster, 'two that are none', \%offset, qw(n2 n3));
	$cluster->reload_line('n2', 'pg_elector.candidate', 'on');
	is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'two that are none: one becomes one and leads');
	is($cluster->wait_for_follower('n3'), 'n2', 'two that are none: the other follows');
	end_and_start($cluster, 'n1');

	# Elections that came to nothing have used up terms.
	my @history = $cluster->query_history('n2');
	is(join(' ', map { $_->{leader} } @history), 'n1 n1 n2', 'no candidate: it has never led');
	cmp_ok($history[-1]{term}, '>', 3, 'no candidate: as often as elections were run');
	$cluster->teardown;
}

# Nodes that are too far behind.  The streams stand still, while reports tell
# the followers how far the leader is.
{
	my $cluster = ElectorCluster->new(nodes => 3, settings => { 'pg_elector.maximum_lag' => '256kB' })->build;

	my $leave_behind = sub {
		level($cluster, 'n1');
		my @senders = split /\n/, $cluster->psql('n1', 'SELECT pid FROM pg_stat_replication');
		is(scalar @senders, 2, 'two streams');
		kill 'STOP', @senders;
		$cluster->psql('n1', 'INSERT INTO rows (n) SELECT generate_series(1, 20000)');
		foreach my $node (qw(n2 n3))
		{
			my $row = $cluster->wait_for_status($node, $node, { lag_bytes => qr/^\d{7,}$/ });
			cmp_ok($row->{lag_bytes}, '>', 256 * 1024, "$node is $row->{lag_bytes} bytes behind, and knows it");
		}
		$cluster->kill_all('n1');
	};

	my %offset = map { $_ => $cluster->log_offset($_) } @all;
	$leave_behind->();
	$cluster->poll_until(
		sub { grep { (($cluster->status_of($_, $_) // {})->{detail} // '') =~ /maximum_lag/ } qw(n2 n3) },
		20, 'a node that says that all are behind');
	pass('behind: elector_status says so');
	nobody_leads($cluster, 'behind', \%offset, qw(n2 n3));
	$cluster->revive('n1');
	$cluster->start('n1');
	is($cluster->wait_for_leader, 'n1', 'behind: the one that has the rows comes back and leads');
	is($cluster->psql('n1', 'SELECT count(*) FROM rows'), 20000, 'behind: with all rows');
	$cluster->wait_for_follower($_) foreach qw(n2 n3);

	# The same, and then it does not matter any more.
	$leave_behind->();
	$cluster->poll_until(
		sub { grep { (($cluster->status_of($_, $_) // {})->{detail} // '') =~ /maximum_lag/ } qw(n2 n3) },
		20, 'a node that says that all are behind');
	$cluster->reload_line($_, 'pg_elector.maximum_lag', '-1') foreach qw(n2 n3);
	my $new = $cluster->wait_for_leader(exclude => 'n1');
	ok($new, "behind: with maximum_lag = -1, $new leads");
	is($cluster->psql($new, 'SELECT count(*) FROM rows'), 20000, 'behind: without the rows that only the dead one has');
	$cluster->teardown;
}

# How soon after the last change.
{
	my $cooldown = 12;
	my $cluster  = ElectorCluster->new(nodes => 3, settings => { 'pg_elector.failover_cooldown' => "${cooldown}s" })->build;
	my $ages     = q{SELECT extract(epoch FROM max(opened_at) - min(opened_at)) FROM
		(SELECT opened_at FROM elector_history ORDER BY term DESC LIMIT 2) AS two};

	my $since = now();
	$cluster->kill_all('n1');
	my $second = $cluster->wait_for_leader(exclude => 'n1');
	cmp_ok(now() - $since, '<', $cooldown - 4, 'cooldown: the first leader is replaced at once');
	my ($third) = others('n1', $second);
	$cluster->wait_for_follower($third);

	$cluster->kill_all($second);
	my $row = $cluster->wait_for_status($third, $third, { state => 'cooldown' });
	like($row->{detail}, qr/failover_cooldown/, 'cooldown: elector_status says so');
	my $blocked = q{SELECT blocked || ' ' || (blocked_until = opened_at + current_setting('pg_elector.failover_cooldown')::interval)
		FROM elector_history ORDER BY term DESC LIMIT 1};
	$cluster->poll_until(sub { $cluster->psql($third, $blocked) eq 'cooldown true' }, 5,
		'the history to say what is blocked, and until when');
	is($cluster->wait_for_leader(exclude => [ 'n1', $second ], timeout => 20), $third, 'cooldown: it ends');
	my $age = $cluster->psql($third, $ages);
	cmp_ok($age, '>=', $cooldown, "cooldown: not before its time ($age s)");
	cmp_ok($age, '<', $cooldown + 3, 'cooldown: nor long after');

	# A leader that gives up by itself is replaced at once.
	$cluster->revive($second);
	$cluster->start($second);
	$cluster->wait_for_follower($second);
	$cluster->kill_postmaster($third);
	is($cluster->wait_for_leader(exclude => [ 'n1', $third ]), $second, 'cooldown: not after a resignation');
	$age = $cluster->psql($second, $ages);
	cmp_ok($age, '<', $cooldown, "cooldown: within its time ($age s)");
	$cluster->teardown;
}

# The first node is no candidate: it waits for one.
{
	my $cluster = ElectorCluster->new(nodes => 2);
	$cluster->start_etcd;
	$cluster->init_first('n1', settings => { 'pg_elector.candidate' => 'off' });
	$cluster->start('n1');
	$cluster->wait_log('n1', qr/no member that answered may become leader/);
	is($cluster->psql('n1', 'SELECT pg_is_in_recovery()'), 't', 'first node: no candidate, it stays a standby');
	is(($cluster->ask('n1', 'CREATE TABLE t (n int)', user => 'postgres'))[0], '25006', 'first node: it takes no write');

	$cluster->add_node('n2', from => 'n1', settings => { 'pg_elector.candidate' => 'on' });
	$cluster->start('n2');
	$cluster->wait_for_writable('n2');
	$cluster->create_schema('n2');
	is($cluster->wait_for_leader, 'n2', 'first node: the second leads');
	is($cluster->wait_for_follower('n1'), 'n2', 'first node: and it follows');
	is(scalar(grep { $_->{leader} eq 'n1' } $cluster->query_history('n2')), 0, 'first node: it has never led');
}

done_testing();
