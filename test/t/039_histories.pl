# Who has which commits: stories in which an election, asked too early or of the wrong
# nodes, takes one that lacks what was acknowledged, and how each of them ends.  In most
# of them the leader dies after a commit that one follower, "has", has acknowledged and
# the other, "lacks", never got, since the leader's walsender to it stood still.
#
# S3	has answers the fence, and cannot be established, since etcd is out of its reach.
#		That is no reason to take lacks.
# S5	has starts anew, and has not replayed yet what it holds.  Nor does it know of any
#		walreceiver.  It does not answer before it knows.
# S2	A follower with a mistake in its configuration has answered the fence, and its
#		startup process, which could not load the new settings, still goes by the old: the
#		walreceiver would come back, and acknowledge for the old leader.
# S6	The policy changes from "any 1" to "any 2".  Until two have what one alone has
#		acknowledged, an election has to find that one.
# S4	A follower wins the leader key and stands still before its promotion; its lease
#		ends.  The old leader, still a primary, is not established in place, but on a newer
#		timeline, so that the promotion that comes about late cannot win by its number.
# S10	has is restored from its own backup, or cloned: it has forgotten what it has
#		acknowledged, and does not count.
# S13	The leader restarts in place while a commit waits, which then is in its tables.
#		Nobody reads it before a follower has it.
# S7	Under a policy whose sets differ by leader (test/policy/next.c) has is established,
#		and never opens.  Its own sets do not hide those of the leader before it.
use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorCluster;
use ElectorProcess qw(must_run);
use File::Basename qw(dirname);
use JSON::PP qw(decode_json);
use Test::More;

my $cluster = ElectorCluster->new(
	nodes    => 3,
	settings => {
		autovacuum => 'off',
		wal_retrieve_retry_interval => '200ms',
		'pg_elector.durability' => 'any 1',
		'pg_elector.cold_start_wait' => '3s' });
my $library = $cluster->base . '/next.so';
my $include = must_run({}, $ENV{PG_CONFIG} // 'pg_config', '--includedir-server');
must_run({}, 'gcc', '-Wall', '-Werror', '-fPIC', '-shared', '-I' . ($include =~ s/\n//r),
	dirname(abs_path(__FILE__)) . '/../policy/next.c', '-o', $library);
$cluster->{settings}{shared_preload_libraries} = "pg_elector,$library";
$cluster->build;
$cluster->set_durability('any 1');

my $number = 0;

sub others { my %not = map { $_ => 1 } @_; return grep { !$not{$_} } $cluster->nodes }

sub start_again
{
	my ($node) = @_;
	$cluster->revive($node);
	$cluster->start($node);
	return;
}

# Everybody is there, has all rows, and counts.
sub make_whole
{
	foreach my $node ($cluster->nodes)
	{
		$cluster->heal($node);
		start_again($node) if $cluster->{node}{$node}{state} eq 'stopped';
	}
	my $leader = $cluster->wait_for_leader(timeout => 40);
	foreach my $node (others($leader))
	{
		$cluster->wait_for_follower($node, 60);
		$cluster->wait_until_counts($node);
	}
	return $leader;
}

# The beginning of a story.  Options: prefer, the follower with the higher priority;
# next, who has to acknowledge.  Returns leader, has, lacks.
sub begin
{
	my (%opts) = @_;
	my $leader = make_whole();
	my ($has, $lacks) = others($leader);
	($has, $lacks) = ($lacks, $has) if defined $opts{next} && $opts{next}->($leader) ne $has;

	foreach my $node ($cluster->nodes)
	{
		my $priority = ($opts{prefer} // '') eq ($node eq $has ? 'has' : $node eq $lacks ? 'lacks' : 'leader') ? 200 : 100;
		$cluster->reload_line($node, 'pg_elector.priority', $priority);
		$cluster->wait_for_status($leader, $node, { priority => $priority });
	}
	return ($leader, $has, $lacks);
}

# Has acknowledges a row that lacks does not get.  Returns the row.
sub acknowledge
{
	my ($leader, $has, $lacks) = @_;
	$cluster->stop_streams($leader, $lacks);
	$cluster->psql($leader, 'INSERT INTO rows (n) VALUES (' . --$number . ')');
	return $number;
}

sub is_there
{
	my ($node, $row, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($cluster->psql($node, "SELECT count(*) FROM rows WHERE n = $row"), 1, "$name: what was acknowledged is there");
}

# A node runs elections, and does not lead, since commits may be elsewhere.
sub stays_out
{
	my ($node, $elsewhere, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $row = $cluster->poll_until(
		sub {
			my $row = $cluster->status_of($node, $node) // return 0;
			return $row->{state} eq 'commits missing' || $row->{role} eq 'leader' ? $row : 0;
		},
		30, "$node to lead, or not");
	is($row->{state}, 'commits missing', "$name: $node does not lead");
	like($row->{detail} // '', qr/"$elsewhere"/, "$name: since commits may be on $elsewhere");
	return;
}

# The timeline that a primary is on.
sub timeline_of
{
	my ($node) = @_;
	return $cluster->psql($node, q{SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int});
}

sub record
{
	my ($key) = @_;
	my $text = $cluster->etcdctl('get', '--print-value-only', $cluster->prefix . $key);
	return length $text ? decode_json($text) : {};
}

# The startup process stands still when it has replayed all that there is, and nothing
# has been written for a while: who reads, as peers do, writes hints after a checkpoint.
sub stop_level
{
	my ($leader, $node, $startup) = @_;
	my ($end, $since, $looks) = ('', 0, 0);

	$cluster->try_psql($leader, q{SELECT elector_fence('')});    # its hints, too

	$cluster->poll_until(
		sub {
			# At the boundary of a page the same end has two names.
			$cluster->psql($leader, 'SELECT pg_current_xact_id()') if ++$looks % 100 == 0;
			my $lsn = $cluster->psql($leader, 'SELECT pg_current_wal_insert_lsn()');
			($end, $since) = ($lsn, now()) if $lsn ne $end;
			return now() > $since + 1.5 && $cluster->psql($node, 'SELECT pg_last_wal_replay_lsn()') eq $lsn;
		},
		30, "$node to be level");
	kill 'STOP', $startup;
	return;
}

sub S3
{
	my ($leader, $has, $lacks) = begin();
	my $row    = acknowledge($leader, $has, $lacks);
	my $offset = $cluster->log_offset($has);

	$cluster->cut($has, from => 'etcd');
	$cluster->kill_all($leader);
	$cluster->wait_log($has, qr/fenced for term/, $offset);
	stays_out($lacks, $has, 'S3');
	$cluster->heal($has);
	is($cluster->wait_for_leader(exclude => $leader, timeout => 30), $has, "S3: $has leads when it can");
	is_there($has, $row, 'S3');
	return;
}

sub S5
{
	my ($leader, $has, $lacks) = begin(prefer => 'lacks');
	$cluster->reload_line($has, 'recovery_min_apply_delay', '1h');
	my $row = acknowledge($leader, $has, $lacks);

	$cluster->kill_all($leader);
	$cluster->stop($has, mode => 'immediate');
	$cluster->start($has);
	is($cluster->psql($has, "SELECT count(*) FROM rows WHERE n = $row"), 0, "S5: $has has not replayed what it holds");
	stays_out($lacks, $has, 'S5');
	$cluster->reload_line($has, 'recovery_min_apply_delay', '0');
	is($cluster->wait_for_leader(exclude => $leader, timeout => 30), $has, "S5: $has leads when it has");
	is_there($has, $row, 'S5');
	return;
}

# What is not acknowledged here is lacking on both.
sub S2
{
	my ($leader, $has, $other) = begin(prefer => 'lacks');
	my $session = $cluster->session($leader);
	my @streams = $cluster->stop_streams($leader);
	my $offset  = $cluster->log_offset($has);

	$number--;
	$session->backend;
	$session->send("INSERT INTO rows (n) VALUES ($number)");
	$cluster->wait_for_commit_wait($leader, $session->backend);
	$cluster->append($has, 'postgresql.conf', "this is a mistake\n");
	$cluster->stop_worker($leader);
	$cluster->wait_for_status($other, $other, { role => 'leader' });
	kill 'CONT', @streams;
	my $log = $cluster->wait_log($has, qr/fenced for term.*(?:this node does not follow that server now|started streaming WAL)/s, $offset);
	unlike($log, qr/started streaming/, "S2: $has is not let to the old leader again");
	is($cluster->psql($leader, "SELECT count(*) FROM pg_stat_replication WHERE application_name = '$has'"), 0, 'S2: which has no stream to it');
	$cluster->cont_worker($leader);
	ok(!$session->finish(20)->{ok}, 'S2: what nobody has was not acknowledged');
	write_file($cluster->data($has) . '/postgresql.conf',
		read_file($cluster->data($has) . '/postgresql.conf') =~ s/^this is a mistake\n//mr);
	$cluster->run_on($has, {}, 'pg_ctl', '-D', $cluster->data($has), 'reload');
	$cluster->wait_for_follower($has, 60);
	is($cluster->psql($has, "SELECT count(*) FROM rows WHERE n = $number"), 0, "S2: and $has follows the new leader, without it");
	return;
}

sub S6
{
	my ($leader, $has, $lacks) = begin(prefer => 'lacks');
	my $row = --$number;

	# A walsender that stood still could not load the names, either.
	$cluster->cut($lacks, from => [$leader]);
	$cluster->psql($leader, "INSERT INTO rows (n) VALUES ($row)");
	$cluster->reload_line($_, 'pg_elector.durability', 'any 2') foreach $cluster->nodes;
	$cluster->poll_until(sub { $cluster->psql($leader, 'SHOW synchronous_standby_names') =~ /^ANY 2/ }, 20, 'the names of the next policy');
	my $until = now() + 1;
	$cluster->poll_until(sub { now() > $until || $cluster->has_durability('any 2') }, 10, 'a while');
	is(record('durability')->{rule}{policy}, 'any 1', 'S6: the old policy stays in force beside the next one');
	$cluster->kill_all($_) foreach $leader, $has;
	stays_out($lacks, $has, 'S6');
	$cluster->heal($lacks);
	start_again($_) foreach $leader, $has;
	my $new = $cluster->wait_for_leader(timeout => 40);
	is_there($new, $row, 'S6');
	$cluster->set_durability('any 1');
	return;
}

# Here nobody lacks anything in the beginning, nor writes: who stands still has replayed
# all that it holds.
sub S4
{
	my ($leader, $late, $other) = begin(prefer => 'has');
	my ($startup) = $cluster->find_processes($late, qr/^postgres: startup/);
	my ($writer)  = $cluster->find_processes($leader, qr/^postgres: background writer/);
	my $allotted;

	$cluster->reload_line($other, 'pg_elector.candidate', 'off');
	kill 'STOP', $writer;
	stop_level($leader, $late, $startup);
	$cluster->cut($leader, from => 'etcd');
	$cluster->poll_until(sub { my $term = record('term'); $allotted = $term->{timeline}; return $term->{node} eq $late },
		20, "$late to win the leader key");
	kill 'CONT', $writer;
	$cluster->cut($late);
	$cluster->poll_until(sub { !record('leader')->{node} }, 20, 'its lease to end');
	$cluster->heal($leader);
	is($cluster->wait_for_leader(exclude => $late, timeout => 30), $leader, "S4: $leader leads again");
	cmp_ok(timeline_of($leader), '>', $allotted, "S4: on a newer timeline than the one that was allotted to $late");
	$number--;
	$cluster->psql($leader, "INSERT INTO rows (n) VALUES ($number)");

	kill 'CONT', $startup;
	$cluster->poll_until(sub { $cluster->try_psql($late, 'SELECT pg_is_in_recovery()')->{out} eq 'f' }, 20, "$late to be promoted");
	is(timeline_of($late), $allotted, "S4: $late is promoted, too late");
	isnt(($cluster->ask($late, 'INSERT INTO rows (n) VALUES (0)'))[0], 'ok', 'S4: and takes no write');
	$cluster->heal($late);
	$cluster->reload_line($other, 'pg_elector.candidate', 'on');
	is($cluster->wait_for_follower($late, 60), $leader, "S4: it follows $leader");
	is_there($late, $number, 'S4');
	return;
}

sub S10
{
	my ($leader, $has, $lacks) = begin(prefer => 'lacks');
	my $backup = $cluster->base . '/backup';

	$cluster->run_on($has, { timeout => 60 }, 'pg_basebackup', '-D', $backup, '-h', $cluster->address($has),
		'-U', 'postgres', '-c', 'fast')->{ok} or die 'no backup';
	my $row = acknowledge($leader, $has, $lacks);
	$cluster->kill_all($leader);

	foreach my $how ('restored', 'cloned')
	{
		my $data = $cluster->data($has);

		# The directory stays, as for most who restore.
		$cluster->stop($has, mode => 'immediate');
		must_run({}, 'find', $data, '-mindepth', 1, '-delete');
		if ($how eq 'restored')
		{
			must_run({}, 'cp', '-a', "$backup/.", $data);
		}
		else
		{
			$cluster->add_node($has, from => $lacks);
		}
		my $offset = $cluster->log_offset($has);
		$cluster->start($has);
		$cluster->wait_log($has, qr/fenced for term/, $offset);
		stays_out($lacks, $has, "S10, $how");
	}
	start_again($leader);
	is($cluster->wait_for_leader(timeout => 40), $leader, "S10: $leader leads when it is back");
	is_there($leader, $row, 'S10');
	return;
}

sub S13
{
	my ($leader, $one, $two) = begin();
	my $session = $cluster->session($leader);

	$number--;
	$session->backend;
	$cluster->stop_worker($_) foreach $one, $two;
	$cluster->cut($leader, from => 'peers');
	$session->send("INSERT INTO rows (n) VALUES ($number)");
	$cluster->wait_for_commit_wait($leader, $session->backend);
	$cluster->kill_one_backend($leader);
	ok(!$session->finish(20)->{ok}, 'S13: a commit that waited for followers is not acknowledged');

	my $row = $cluster->poll_until(
		sub {
			my $row = $cluster->status_of($leader, $leader) // return 0;
			return $row->{role} eq 'leader' && $row->{state} =~ /^open/ && $row->{detail} ? $row : $cluster->is_leader($leader) && { state => 'open' };
		},
		30, "$leader to lead again");
	is($row->{state}, 'opening', 'S13: the server that restarted waits for them');
	is($cluster->psql($leader, "SELECT count(*) FROM rows WHERE n = $number"), 1, 'S13: its tables hold the commit');
	isnt(($cluster->ask($leader, "SELECT count(*) FROM rows WHERE n = $number"))[0], 'ok', 'S13: and nobody is shown it');
	$cluster->kill_all($leader);
	$cluster->cont_worker($_) foreach $one, $two;
	my $new = $cluster->wait_for_leader(exclude => $leader, timeout => 30);
	is($cluster->psql($new, "SELECT count(*) FROM rows WHERE n = $number"), 0, 'S13: it was lost, and nobody has seen it');
	return;
}

sub S7
{
	make_whole();
	$cluster->set_durability('next');
	my ($leader, $has, $lacks) = begin(next => sub { my %next = (n1 => 'n2', n2 => 'n3', n3 => 'n1'); return $next{ $_[0] } });
	is($cluster->psql($leader, 'SHOW synchronous_standby_names'), qq{ANY 1 ("$has")}, "S7: $has acknowledges for $leader");
	my $row = acknowledge($leader, $has, $lacks);

	$cluster->kill_all($_) foreach $lacks, $leader;
	$cluster->wait_for_status($has, $has, { role => 'leader', detail => qr/acknowledged the beginning/ });
	$cluster->kill_all($has);
	start_again($lacks);
	stays_out($lacks, $has, 'S7');
	start_again($_) foreach $leader, $has;
	my $new = $cluster->wait_for_leader(timeout => 40);
	is_there($new, $row, 'S7');
	return;
}

S3();
S5();
S2();
S6();
S4();
S10();
S13();
S7();

make_whole();
$cluster->remember;
$cluster->check_whole('histories');
is($cluster->psql('n1', 'SELECT timeline FROM elector_history GROUP BY timeline HAVING count(*) > 1'), '', 'no timeline was used twice');

done_testing();
