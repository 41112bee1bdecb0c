# HAProxy with the configuration of contrib/haproxy that asks the HTTP endpoint: who
# leads and who follows, through a switchover, a failover, a stopped elector, and while
# a follower lags.
use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorCluster;
use ElectorProcess qw(spawn);
use File::Basename qw(dirname);
use IO::Socket::UNIX;
use Test::More;

my $proxy   = '10.99.0.80';
my $cluster = ElectorCluster->new(nodes => 3, ttl => '10s', settings => { 'pg_elector.http_listen' => '*:8008' })->build;
my $control = "$cluster->{sockets}/haproxy";
my $leader_port   = "host=$proxy port=5432 dbname=postgres user=app connect_timeout=3";
my $follower_port = "host=$proxy port=5433 dbname=postgres user=app connect_timeout=3";

# The configuration as it is shipped, with the addresses of this network.
sub start_haproxy
{
	my $file = $cluster->base . '/haproxy.cfg';
	my $text = read_file(dirname(abs_path($0)) . '/../../contrib/haproxy/haproxy-http.cfg');

	like($text, qr{^\toption httpchk /leader$}m, 'the configuration asks with `option httpchk`');
	$text =~ s/^(\tserver n\d )10\.0\.0\.(\d):/$1 . $cluster->address("n$2") . ':'/gme;
	$text =~ s/^global$/global\n\tstats socket $control mode 600/m or die;
	write_file($file, $text);
	$cluster->network->add_host('proxy', $proxy);
	spawn({ log => $cluster->base . '/haproxy.log' }, $cluster->network->on('proxy'), 'haproxy', '-db', '-f', $file);
	return;
}

# What HAProxy thinks of the servers of a port: "n1 UP, n2 DOWN, ..."
sub servers
{
	my ($listener) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $control) or return '';
	my @servers;

	print $socket "show stat\n";
	foreach my $line (<$socket>)
	{
		my @fields = split /,/, $line;
		push @servers, "$fields[1] $fields[17]" if @fields > 17 && $fields[0] eq $listener && $fields[1] =~ /^n\d/;
	}
	return join ', ', @servers;
}

# Wait until only this node is taken for the leader, and all but the absent for
# followers.
sub wait_for_servers
{
	my ($leader, @absent) = @_;
	my %absent = map { $_ => 1 } @absent;
	my $leaders   = join ', ', map { "$_ " . ($_ eq $leader ? 'UP' : 'DOWN') } $cluster->nodes;
	my $followers = join ', ', map { "$_ " . ($_ eq $leader || $absent{$_} ? 'DOWN' : 'UP') } $cluster->nodes;

	$cluster->poll_until(sub { servers('leader') eq $leaders && servers('followers') eq $followers },
		20, "HAProxy to see $leaders; $followers");
	is($cluster->psql(undef, 'SELECT elector_is_leader()', conninfo => $leader_port), 't',
		"$leader leads: its port reaches it");
	is($cluster->psql(undef, 'SELECT elector_is_leader()', conninfo => $follower_port), 'f',
		"$leader leads: the followers' port does not");
	return;
}

start_haproxy();
wait_for_servers('n1');
my $writer  = $cluster->start_writer(conninfo => $leader_port, connect_ms => 3000, statement_ms => 20000);
my $probers = $cluster->start_probers;

# After a change: the client goes on, and so does HAProxy's view.
sub check_change
{
	my ($name, $old, $since, @absent) = @_;
	my $new = $cluster->wait_for_leader(exclude => $old);

	$writer->wait_for_acks(20);
	wait_for_servers($new, @absent);
	note("$name: " . $writer->longest_gap(since => $since) . ' ms without an acknowledgement');
	return $new;
}

# A follower that lags is no place to read from.
$cluster->psql('n3', 'SELECT pg_wal_replay_pause()');
$cluster->psql('n1', q{CREATE TABLE ballast AS SELECT n, repeat('x', 1000) AS text FROM generate_series(1, 30000) AS n}, timeout => 60);
$cluster->poll_until(sub { servers('followers') eq 'n1 DOWN, n2 UP, n3 DOWN' }, 30, 'HAProxy to leave a follower that lags out');
pass('a follower that lags is left out');
$cluster->psql('n3', 'SELECT pg_wal_replay_resume()');
wait_for_servers('n1');

# Switchover.
my $session = $cluster->session('HAProxy', over => 'net', conninfo => $leader_port);
my $since = now_us();
$cluster->psql('n1', q{SELECT elector_switchover('n2')});
my $leader = check_change('switchover', 'n1', $since);
is($leader, 'n2', 'switchover: the target leads');
ok(!$session->query('SELECT 1')->{alive}, 'switchover: sessions to the old leader have ended');
$cluster->wait_for_follower('n1');

# Failover: the postmaster is killed.
$since = now_us();
$cluster->kill_postmaster('n2');
$leader = check_change('failover', 'n2', $since, 'n2');
$cluster->wait_for_no_process('n2');
$cluster->start('n2');
$cluster->wait_for_follower('n2');
$cluster->remember('n2');
wait_for_servers($leader);

# The elector of the leader is stopped: the server is there, and does not lead.
$session = $cluster->session('HAProxy', over => 'net', conninfo => $leader_port);
$since = now_us();
$cluster->stop_worker($leader);
my $new = check_change('stopped elector', $leader, $since, $leader);
ok(!$session->query('SELECT 1')->{alive}, 'stopped elector: sessions to the old leader have ended');
$cluster->cont_worker($leader);
$cluster->wait_for_follower($leader);
wait_for_servers($new);

# The leader's machine is silent: HAProxy ends the sessions that wait for it.
$session = $cluster->session('HAProxy', over => 'net', conninfo => $leader_port);
$since = now_us();
$cluster->cut($new);
$session->send('SELECT 1');
ok(!$session->finish(30)->{alive}, 'silent machine: HAProxy ends a session that waits');
my $last = check_change('silent machine', $new, $since, $new);
$cluster->heal($new);
$cluster->wait_for_follower($new);
wait_for_servers($last);

$cluster->check_end('HAProxy over HTTP', $writer, $probers, losses => 1);

done_testing();
