# The HTTP endpoint: what each path answers on a leader and a follower, through changes
# and when nobody is there who knows; JSON, metrics; slow and hostile clients; TLS.
use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorCluster;
use ElectorHttp;
use ElectorProcess qw(spawn run_command must_run kill_and_wait process_alive);
use File::Basename qw(dirname);
use JSON::PP qw(decode_json);
use Test::More;

my $crowd   = dirname(abs_path($0)) . '/../kit/crowd.pl';
my $cluster = ElectorCluster->new(nodes => 3, ttl => '4s', settings => { 'pg_elector.http_listen' => '*:8008' })->build;
my $base    = $cluster->base;

my @leader_paths   = qw(/leader /primary /read-write);
my @follower_paths = qw(/follower /replica /follower?lag=1MB /replica?lag=1000000);
my @common_paths   = qw(/read-only /read-only?lag=16kB /health /status /metrics /);

# Every path of a node whose role is known.
sub check_paths
{
	my ($node, $role, $name) = @_;
	my %wanted = (
		(map { $_ => $role eq 'leader' ? 200 : 503 } @leader_paths),
		(map { $_ => $role eq 'follower' ? 200 : 503 } @follower_paths),
		(map { $_ => 200 } @common_paths));
	is(join(' ', map { "$_=" . http_status($cluster, $node, $_) } sort keys %wanted),
		join(' ', map { "$_=$wanted{$_}" } sort keys %wanted), "$name: paths of $node, a $role");
	return;
}

sub metrics { return parse_metrics(http_ask($cluster, $_[0], '/metrics')->{body}) }
sub metric { my ($node, $name) = @_; my %metrics = metrics($node); return $metrics{$name} }

#
# A leader and two followers.
#
check_paths('n1', 'leader', 'at first');
check_paths($_, 'follower', 'at first') foreach qw(n2 n3);

foreach my $case (
	[ 'HEAD',    '/leader',          200 ], [ 'HEAD',   '/follower',          503 ],
	[ 'OPTIONS', '/leader',          200 ], [ 'OPTIONS', '/follower',         503 ],
	[ 'POST',    '/leader',          405 ], [ 'PUT',    '/status',            405 ],
	[ 'DELETE',  '/',                405 ], [ 'BREW',   '/leader',            405 ],
	[ 'GET',     '/nothing',         404 ], [ 'GET',    '/leader/',           404 ],
	[ 'GET',     '//leader',         404 ], [ 'GET',    '/status/../leader',  404 ],
	[ 'GET',     '/LEADER',          404 ], [ 'GET',    '/%2fleader',         404 ],
	[ 'GET',     '/leader?x=1&y',    200 ], [ 'GET',    '/' . 'x' x 100,      414 ],
	[ 'GET',     '/read-only?lag=0', 200 ], [ 'GET',    '/read-only?lag=',    400 ],
	[ 'GET',     '/read-only?lag=-1', 400 ], [ 'GET',   '/read-only?lag=1XB', 400 ],
	[ 'GET',     '/read-only?lag=99999999999999999999', 400 ], [ 'GET', '/read-only?lag=9999999TB', 400 ],
	[ 'GET',     '/read-only?lag=1.5MB', 400 ], [ 'GET', '/read-only?lag=16mb', 200 ],
	[ 'GET',     '/read-only?lag=1%20GB', 200 ])
{
	my ($method, $path, $status) = @$case;
	my $answer = http_ask($cluster, 'n1', $path, method => $method, args => ['--path-as-is']);
	is($answer->{status}, $status, "$method " . substr($path, 0, 40));
	is($answer->{body}, '', "$method has no body") if $method =~ /HEAD|OPTIONS/;
	is($answer->{headers}{allow}, 'GET, HEAD, OPTIONS', '405 says what is allowed') if $status == 405;
}
my $large = http_ask($cluster, 'n1', '/leader', args => [ '-H', 'X-Large: ' . 'x' x 20000 ]);
ok($large->{status} >= 400 && $large->{status} < 500 || $large->{status} == 0, "a very large header is refused ($large->{status})");

my $page = http_ask($cluster, 'n1', '/');
is($page->{headers}{'content-type'}, 'text/html; charset=utf-8', 'the page is HTML');
like($page->{headers}{'content-security-policy'}, qr/^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; connect-src 'self';/,
	'with a content security policy');
unlike($page->{body}, qr{https?://(?!www\.w3\.org/2000/svg)|<link|<img|\bsrc=|\@import|url\(}, 'and nothing from elsewhere');
my $leader = http_ask($cluster, 'n1', '/leader');
is($leader->{headers}{'cache-control'}, 'no-store', 'nobody is to keep an answer');
is($leader->{headers}{connection}, 'close', 'one request a connection');
is($leader->{json}{role}, 'leader', 'the body says the role');
is($leader->{json}{term}, 1, 'and the term');

#
# /status is what the views show, and no secret.
#
sub rows
{
	my ($view, $order) = @_;
	return map { decode_json($_) } split /\n/,
	  $cluster->psql('n2', "SET timezone = 'UTC'; SELECT row_to_json(v) FROM $view AS v ORDER BY $order");
}
sub sorted { return join ' ', sort keys %{ $_[0] } }
sub moment { return defined $_[0] ? $_[0] =~ s/(?:Z|\+00:00)$//r =~ s/\.?0*$//r : undef }

my $status = http_ask($cluster, 'n2', '/status');
is($status->{headers}{'content-type'}, 'application/json; charset=utf-8', '/status is JSON');
my @members = rows('elector_status', 'node');
is(scalar @{ $status->{json}{members} }, 3, '/status has all members');
foreach my $i (0 .. 2)
{
	my ($here, $there) = ($status->{json}{members}[$i], $members[$i]);
	is(sorted($here), sorted($there), "a member's fields are the columns of elector_status");
	foreach my $field (qw(node role state term timeline priority detail))
	{
		is($here->{$field}, $there->{$field}, "$here->{node}: $field");
	}
}
is($status->{json}{leader}, 'n1', '/status says who leads');
is($status->{json}{$_}, JSON::PP::true, "/status: $_") foreach qw(at_work);
is($status->{json}{paused}, JSON::PP::false, '/status: not paused');
is(sorted($status->{json}{lease}), 'failures left_ms renewals round_trip_ms ttl_ms', '/status: the lease, without its ID');
is(sorted($status->{json}{durability}), 'degraded missing next rule safe', '/status: durability');

sub check_history
{
	my ($name) = @_;
	my @history = rows('elector_history', 'term');
	my $told    = http_ask($cluster, 'n2', '/status')->{json}{history};
	is(scalar @$told, scalar @history, "$name: /status has all leaderships");
	foreach my $i (0 .. $#history)
	{
		my ($here, $there) = ($told->[$i], $history[$i]);
		foreach my $entry ($here, $there) { $entry->{$_} = moment($entry->{$_}) foreach qw(began_at opened_at) }
		is_deeply($here, $there, "$name: term $there->{term} as in elector_history");
	}
	return;
}
check_history('at first');
my $everything = join '', map { http_ask($cluster, $_, '/status')->{body} . http_ask($cluster, $_, '/metrics')->{body} } $cluster->nodes;
unlike($everything, qr/host=|user=|dbname|conninfo|password|10\.99\./i, 'no connection strings');

# What the operator does is told.
$cluster->psql('n1', q{SELECT elector_pause('a "reason" with <b>markup</b> and \\ and '  || chr(233))});
$cluster->poll_until(sub { http_ask($cluster, 'n2', '/status')->{json}{paused} }, 10, 'the pause');
my ($row) = grep { $_->{node} eq 'n2' } @{ http_ask($cluster, 'n2', '/status')->{json}{members} };
like($row->{detail}, qr/a "reason" with <b>markup<\/b> and \\ and \x{e9}/, 'texts of others are escaped in JSON');
is(metric('n3', 'pg_elector_paused'), 1, 'paused, in the metrics');
check_paths('n1', 'leader', 'paused');
check_paths('n2', 'follower', 'paused');
$cluster->psql('n1', 'SELECT elector_resume()');

#
# Metrics.
#
foreach my $node ($cluster->nodes)
{
	$cluster->poll_until(sub { metric($node, 'pg_elector_renewal_seconds_count') > 0 }, 20, "$node to renew its lease");
}
my %on = map { $_ => { metrics($_) } } $cluster->nodes;
is($on{n1}{'pg_elector_role{role=leader}'}, 1, 'metrics: n1 leads');
is($on{n2}{'pg_elector_role{role=leader}'}, 0, 'metrics: n2 does not');
is($on{n2}{'pg_elector_role{role=follower}'}, 1, 'metrics: it follows');
foreach my $node ($cluster->nodes)
{
	my %metrics = %{ $on{$node} };
	is($metrics{pg_elector_term}, 1, "metrics of $node: term");
	is($metrics{pg_elector_members}, 3, "metrics of $node: members");
	is($metrics{pg_elector_elector_at_work}, 1, "metrics of $node: the elector is at work");
	cmp_ok($metrics{pg_elector_lease_left_seconds}, '>', 0, "metrics of $node: lease left");
	cmp_ok($metrics{pg_elector_renewal_seconds_sum}, '>', 0, "metrics of $node: their time");
	is($metrics{pg_elector_changes_total}, 1, "metrics of $node: changes");
	ok(defined $metrics{"pg_elector_refused_total{what=$_}"}, "metrics of $node: refused $_") foreach qw(commit statement connection answer);
	ok(defined $metrics{pg_elector_lag_bytes}, "metrics of $node: lag");
}
$cluster->poll_until(sub { metric('n1', 'pg_elector_renewal_seconds_count') > $on{n1}{pg_elector_renewal_seconds_count} }, 10, 'a renewal to be counted');
pass('metrics: renewals are counted');

#
# Lag, of what can be read.
#
$cluster->psql('n2', 'SELECT pg_wal_replay_pause()');
$cluster->poll_until(sub { $cluster->psql('n2', 'SELECT pg_get_wal_replay_pause_state()') eq 'paused' }, 10, 'replay to pause');
$cluster->psql('n1', 'CREATE TABLE ballast AS SELECT repeat(md5(n::text), 10) FROM generate_series(1, 10000) AS n');
wait_for_http($cluster, 'n2', '/follower?lag=1MB', 503);
is(http_status($cluster, 'n2', '/replica?lag=1048576'), 503, 'a follower that lags is too far behind for a megabyte');
is(http_status($cluster, 'n2', '/read-only?lag=1024kB'), 503, 'also where a leader would do');
is(http_status($cluster, 'n2', '/follower?lag=1GB'), 200, 'near enough for a gigabyte');
is(http_status($cluster, 'n2', '/follower'), 200, 'and without a bound');
cmp_ok(metric('n2', 'pg_elector_lag_bytes'), '>', 1048576, 'metrics: its lag');
$cluster->psql('n2', 'SELECT pg_wal_replay_resume()');
wait_for_http($cluster, 'n2', '/follower?lag=1MB', 200);
pass('when it has caught up it is near enough');

#
# Switchover.
#
$cluster->psql('n1', q{SELECT elector_switchover('n2')});
wait_for_http($cluster, 'n2', '/leader', 200);
isnt(http_status($cluster, 'n1', '/leader'), 200, 'switchover: when the new leader says so, the old one does not');
$cluster->wait_for_follower($_) foreach qw(n1 n3);
wait_for_http($cluster, $_, '/follower?lag=1MB', 200) foreach qw(n1 n3);
check_paths('n2', 'leader', 'switchover');
check_paths($_, 'follower', 'switchover') foreach qw(n1 n3);
check_history('switchover');
my %after = metrics('n3');
is($after{pg_elector_term}, 2, 'switchover: term');
is($after{pg_elector_changes_total}, 2, 'switchover: changes');
is($after{pg_elector_change_pause_seconds_count}, 1, 'switchover: one with a known pause');
cmp_ok($after{pg_elector_change_pause_seconds_sum}, '>', 0, 'switchover: which took a moment');
ok((grep { /^pg_elector_last_change_phase_seconds\{phase=promote\}$/ } keys %after), 'switchover: its phases');
is($after{'pg_elector_member_leads{member=n2}'}, 1, 'switchover: who leads');

#
# The elector is stopped: the gate closes by the clock, and the endpoint says so.
#
my $session = $cluster->session('n2');
my $writing = $cluster->session('n2');
$writing->query('BEGIN');
$writing->query('INSERT INTO rows (n) VALUES (-1)');
$cluster->stop_worker('n2');
my $new = $cluster->poll_until(sub { (grep { http_status($cluster, $_, '/leader') == 200 } qw(n1 n3))[0] }, 20, 'another leader');
my $stopped = http_ask($cluster, 'n2', '/leader');
is($stopped->{status}, 503, 'a leader whose elector is stopped: /leader when another leads');
is($stopped->{json}{role}, 'none', 'it has no role');
is(http_status($cluster, 'n2', $_), 503, "a leader whose elector is stopped: $_") foreach qw(/primary /follower /read-only);
is($session->query('INSERT INTO rows (n) VALUES (-1)')->{sqlstate}, '25006', 'it takes no write');
is($writing->query('COMMIT')->{sqlstate}, '25006', 'nor one that had begun');
cmp_ok(metric('n2', "pg_elector_refused_total{what=$_}"), '>', 0, "and what it has refused is counted: $_") foreach qw(statement commit);
wait_for_http($cluster, 'n2', '/health', 503);
is(metric('n2', 'pg_elector_elector_at_work'), 0, 'metrics: the elector is not at work');
my $told = http_ask($cluster, 'n2', '/status')->{json};
is($told->{at_work}, JSON::PP::false, '/status says so, too');
cmp_ok($told->{silent_ms}, '>', 1000, 'and for how long');
is($told->{state}, 'elector silent', 'in its state');
$cluster->cont_worker('n2');
$cluster->wait_for_follower($_) foreach grep { $_ ne $new } $cluster->nodes;
wait_for_http($cluster, 'n2', '/follower?lag=1MB', 200);
is(http_status($cluster, 'n2', '/health'), 200, 'when it goes on it is healthy again');

# A follower's: reads are over by the clock.
my ($follower) = grep { $_ ne $new } $cluster->nodes;
$cluster->stop_worker($follower);
wait_for_http($cluster, $follower, '/follower', 503);
is(http_status($cluster, $follower, '/read-only'), 503, 'a follower whose elector is stopped is not read from');
$cluster->cont_worker($follower);
wait_for_http($cluster, $follower, '/follower', 200);

#
# etcd is gone: the members' promises keep the leader.  Where failsafe is off the gate
# closes, then the followers' reads, with all electors at work.
#
$cluster->kill_etcd;
$cluster->wait_for_status($new, $new, { detail => qr/^leads by the members' promises/ });
is(http_status($cluster, $new, $_), 200, "by promises: $_ of the leader") foreach qw(/leader /read-write /health);
cmp_ok(http_ask($cluster, $new, '/leader')->{json}{lease_ms_left}, '>', 0, 'by promises: how long they last');
is(http_status($cluster, $_, '/follower'), 200, "by promises: $_ is read from") foreach grep { $_ ne $new } $cluster->nodes;
$cluster->reload_line($new, 'pg_elector.failsafe', 'off');
wait_for_http($cluster, $new, '/leader', 503);
is(http_status($cluster, $new, $_), 503, "without etcd: $_ of the last leader") foreach qw(/read-write /read-only /follower);
is(http_ask($cluster, $new, '/leader')->{json}{role}, 'none', 'it has no role');
is(http_status($cluster, $new, '/health'), 200, 'but it is healthy');
foreach my $node (grep { $_ ne $new } $cluster->nodes)
{
	wait_for_http($cluster, $node, '/follower', 503);
	is(http_status($cluster, $node, '/read-only'), 503, "without etcd: $node is not read from");
}
$cluster->start_etcd;
wait_for_http($cluster, $new, '/leader', 200);
wait_for_http($cluster, $_, '/follower?lag=1MB', 200) foreach grep { $_ ne $new } $cluster->nodes;
check_paths($new, 'leader', 'etcd is back');
$cluster->reload_line($new, 'pg_elector.failsafe', undef);

#
# A standby that holds what the leader has not is none to read from.
#
my $astray = $new;
$cluster->reload_line($astray, 'pg_elector.rejoin', 'off');
$session = $cluster->session($astray);
$cluster->cut($astray);
ok($session->query('INSERT INTO rows (n) VALUES (-2)')->{ok}, 'a row that only the old leader has');
$new = $cluster->wait_for_leader(exclude => $astray);
$cluster->heal($astray);
$cluster->poll_until(sub { (http_ask($cluster, $astray, '/status')->{json}{state} // '') eq 'diverged' }, 30, "$astray to find that it has diverged");
is(http_status($cluster, $astray, $_), 503, "diverged: $_") foreach qw(/follower /replica /read-only /leader);
is(http_status($cluster, $astray, '/health'), 200, 'diverged: it is there');
is(metric($astray, 'pg_elector_reads'), 0, 'diverged: the metrics say so');
$cluster->reload_line($astray, 'pg_elector.rejoin', undef);
$cluster->wait_for_follower($astray);
wait_for_http($cluster, $astray, '/follower?lag=1MB', 200);
check_paths($astray, 'follower', 'rewound');

#
# A dead postmaster's endpoint goes with it.
#
$cluster->kill_postmaster($new);
my $old = $new;
$cluster->poll_until(sub { http_status($cluster, $old, '/leader') == 0 }, 10, 'the endpoint of a dead server to go');
$new = $cluster->poll_until(sub { (grep { $_ ne $old && http_status($cluster, $_, '/leader') == 200 } $cluster->nodes)[0] }, 20, 'another leader');
pass("failover: $new says that it leads");
$cluster->wait_for_no_process($old);
$cluster->start($old);
$cluster->wait_for_follower($old);
$cluster->remember($old);
wait_for_http($cluster, $old, '/follower?lag=1MB', 200);
check_paths($new, 'leader', 'failover');
check_history('failover');

#
# Slow and hostile clients: others are answered, the server goes on.
#
$cluster->network->add_host("slow$_", "10.99.0.6$_") foreach 1 .. 4;
my $writer = $cluster->start_writer;
$writer->wait_for_acks(10);
my $http = $cluster->process_pid($new, 'pg_elector http');
my $cpu = processor_time($http);
my $began = now_us();
my $since = now();

sub start_crowd
{
	my ($node, $host, $kind, $count) = @_;
	unlink "$base/crowd.$host.$kind";
	spawn({ log => "$base/crowd.err" }, $cluster->network->on($host), $^X, $crowd, $kind, $count,
		$cluster->address($node), 8008, "$base/crowd.$host.$kind");
	$cluster->poll_until(sub { -e "$base/crowd.$host.$kind" && read_file("$base/crowd.$host.$kind") =~ /^open/ }, 20, "the crowd $kind");
	return;
}

# Processor time of a process so far, in seconds: nothing else tells of a loop that spins.
sub processor_time
{
	my ($pid) = @_;
	my @fields = split ' ', (split /\) /, read_file("/proc/$pid/stat"))[1];
	return ($fields[11] + $fields[12]) / 100;
}

sub ended { my ($name) = @_; my @ended = read_file("$base/crowd.$name") =~ /^ended (\S+)/mg; return @ended }

start_crowd($new, 'slow1', 'drip', 25);
start_crowd($new, 'slow2', 'silent', 25);
start_crowd($new, 'slow3', 'deaf', 10);
start_crowd($new, 'slow3', 'noise', 10);
my $slowest = 0;
foreach (1 .. 10)
{
	my $answer = http_ask($cluster, $new, '/leader');
	is($answer->{status}, 200, "with slow clients about, others are answered ($answer->{ms} ms)");
	$slowest = $answer->{ms} if $answer->{ms} > $slowest;
}
cmp_ok($slowest, '<', 3000, 'soon');

# More than may come from one address, and more than there is room for.
start_crowd($new, 'slow4', 'drip', 40);
$cluster->poll_until(sub { ended('slow4.drip') >= 15 }, 10, 'too many connections from one address to be ended');
cmp_ok((sort { $a <=> $b } ended('slow4.drip'))[14], '<', 5, 'those from one address that are too many are ended at once');
is(http_ask($cluster, $new, '/leader', timeout => 20)->{status}, 200, 'another is answered when there is room');
$cluster->poll_until(sub { ended($_) >= { drip => 25, silent => 25 }->{ (split /\./)[1] } }, 30, "$_ to be ended") foreach qw(slow1.drip slow2.silent);
my ($longest) = sort { $b <=> $a } map { ended($_) } qw(slow1.drip slow2.silent);
cmp_ok($longest, '<', 15, "no connection lived for much longer than ten seconds ($longest s)");
$cluster->poll_until(sub { ended('slow4.drip') == 40 }, 30, 'all to be ended');
$cluster->poll_until(sub { run_command({}, $cluster->network->on($new), 'ss', '-Htn', 'state', 'established', 'sport', '=', ':8008')->{out} eq '' },
	30, 'those who do not read to be ended');
pass('those who do not read are ended, too');
my $memory = $cluster->private_memory($http);
cmp_ok($memory, '<', 16 * 1024, "its process is small ($memory kB)");
my $used = processor_time($http) - $cpu;
my $passed = now() - $since;
cmp_ok($used, '<', 0.25 * $passed, sprintf('and does not spin: %.2f s in %.0f s', $used, $passed));
is($cluster->process_pid($new, 'pg_elector http'), $http, 'the same');
is($cluster->leader, $new, 'the leader is the same');
$writer->wait_for_acks(20);
cmp_ok($writer->longest_gap(since => $began), '<', 9000, 'writes did not wait for them');
kill_and_wait('KILL', map { $cluster->network->pids("slow$_") } 1 .. 4);

# Idle.
my $wakeups = $cluster->wakeups($http);
$since = now();
$cluster->poll_until(sub { now() > $since + 5 }, 10, 'an idle time to pass');
cmp_ok($cluster->wakeups($http) - $wakeups, '<', 5, 'idle it sleeps');

#
# Its own end is nobody else's, and nobody waits for it.
#
my $postmaster = $cluster->postmaster_pid($new);
$session = $cluster->session($new);
kill 'TERM', $http;
$cluster->poll_until(sub { my $pid = $cluster->process_pid($new, 'pg_elector http'); $pid && $pid != $http }, 10, 'another process of the endpoint');
wait_for_http($cluster, $new, '/leader', 200);
is($session->query('SELECT 1')->{out}, 1, 'when the endpoint ends, sessions stay');
is($cluster->postmaster_pid($new), $postmaster, 'and so does the server');
($follower) = grep { $_ ne $new } $cluster->nodes;
start_crowd($follower, 'slow1', 'silent', 20);
$since = now();
$cluster->stop($follower);
cmp_ok(now() - $since, '<', 4, 'open connections do not hold a stop up');
$cluster->start($follower);
$cluster->wait_for_follower($follower);
$cluster->remember($follower);
$cluster->check_end('http', $writer, $cluster->start_probers, losses => 1);

#
# Settings.
#
foreach my $case (
	[ 'http_listen', 'nonsense',         'no port' ],
	[ 'http_listen', '10.0.0.1',         'no port' ],
	[ 'http_listen', ':8008',            'no address' ],
	[ 'http_listen', '10.0.0.1:0',       'port 0' ],
	[ 'http_listen', '10.0.0.1:65536',   'a port that is none' ],
	[ 'http_listen', '10.0.0.1:80x',     'a port that is no number' ],
	[ 'http_listen', '10.0.0.1:+80',     'a port with a sign' ],
	[ 'http_listen', '10.0.0:8008',      'an address that is none' ],
	[ 'http_listen', 'localhost:8008',   'a name' ],
	[ 'http_listen', '[::1:8008',        'half a bracket' ],
	[ 'http_listen', '[10.0.0.1]:8008',  'brackets around what is no IPv6' ],
	[ 'http_listen', '10.0.0.1:1,,10.0.0.1:2', 'an empty address' ],
	[ 'http_listen', join(',', map { "10.0.0.1:$_" } 1 .. 20), 'too many addresses' ],
	[ 'http_cert_file', '/nowhere/at/all', 'a certificate that is not there' ],
	[ 'http_cert_file', 'postgresql.conf', 'a certificate that is none' ],
	[ 'http_cert_file', 'base',            'a certificate that is a directory' ],
	[ 'http_key_file',  '/nowhere/at/all', 'a key that is not there' ],
	[ 'http_key_file',  'postgresql.conf', 'a key that is none' ])
{
	my ($name, $value, $what) = @$case;
	my $result = $cluster->try_psql($new, "ALTER SYSTEM SET pg_elector.$name = '$value'");
	ok(!$result->{ok}, "ALTER SYSTEM refuses $what");
	like($result->{err}, qr/invalid value for parameter "pg_elector.$name".*DETAIL/s, 'and says what is wrong');
}

#
# TLS.
#
my $files = "$base/tls";
mkdir $files;
sub openssl { return must_run({}, 'openssl', @_) }

# A certificate for n3, with its key; its number tells one from another.
sub make_certificate
{
	my ($number) = @_;
	openssl(qw(req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=n3), '-keyout', "$files/key.new", '-out', "$files/request");
	write_file("$files/extensions", 'subjectAltName=IP:' . $cluster->address('n3'));
	openssl(qw(x509 -req -days 2), '-in', "$files/request", '-CA', "$files/ca.crt", '-CAkey', "$files/ca.key",
		'-set_serial', $number, '-extfile', "$files/extensions", '-out', "$files/cert.new");
	rename "$files/$_.new", "$files/$_" foreach qw(cert key);
	chown $cluster->{uid}, $cluster->{gid}, "$files/key";
	chmod 0600, "$files/key";
	return;
}

sub serial
{
	my $result = run_command({ timeout => 10, stdin => '' }, $cluster->network->on('client'), 'openssl', 's_client', '-connect', $cluster->address('n3') . ':8008', @_);
	return run_command({ stdin => $result->{out} }, 'openssl', 'x509', '-noout', '-serial')->{out} =~ /serial=0*(\w+)/ ? $1 : '';
}

openssl(qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=ca), '-keyout', "$files/ca.key", '-out', "$files/ca.crt");
make_certificate(17);
chmod 0644, "$files/key";
my $open_key = $cluster->try_psql('n3', "ALTER SYSTEM SET pg_elector.http_key_file = '$files/key'");
like($open_key->{err}, qr/others may read it/, 'a key that others may read is refused');
chmod 0600, "$files/key";

# One of the two is not enough, and then there is no plain HTTP either.
my $offset = $cluster->log_offset('n3');
$cluster->set_line('n3', 'pg_elector.http_cert_file', "$files/cert");
$cluster->restart('n3');
$cluster->wait_log('n3', qr/WARNING:  the HTTP endpoint does not serve: only one of pg_elector.http_cert_file and pg_elector.http_key_file is set/, $offset);
is(http_status($cluster, 'n3', '/health', timeout => 1), 0, 'with a certificate and no key nothing is served');
$cluster->reload_line('n3', 'pg_elector.http_key_file', "$files/key");
wait_for_http($cluster, 'n3', '/health', 200, ca => "$files/ca.crt");
pass('TLS');
$cluster->wait_for_follower('n3');
wait_for_http($cluster, 'n3', '/follower?lag=1MB', 200, ca => "$files/ca.crt");
is(http_status($cluster, 'n3', '/metrics', ca => "$files/ca.crt"), 200, 'TLS: metrics');
is(http_status($cluster, 'n3', '/health'), 0, 'TLS: no plain HTTP');
is(http_status($cluster, 'n3', '/health', ca => '/etc/ssl/certs/ca-certificates.crt'), 0, 'TLS: whoever does not know the authority is not served')
  if -e '/etc/ssl/certs/ca-certificates.crt';
is(serial(), 11, 'TLS: the certificate');
is(serial('-tls1_1'), '', 'TLS 1.1 is too old');
start_crowd('n3', 'slow1', 'silent', 20);
start_crowd('n3', 'slow2', 'noise', 5);
is(http_status($cluster, 'n3', '/health', ca => "$files/ca.crt"), 200, 'TLS: others are answered while some never shake hands');
$cluster->poll_until(sub { ended('slow1.silent') == 20 }, 30, 'those to be ended');
pass('which are ended');

# A new one, with a reload; a broken one.
make_certificate(18);
$cluster->run_on('n3', {}, 'pg_ctl', '-D', $cluster->data('n3'), 'reload');
$cluster->poll_until(sub { serial() eq '12' }, 10, 'the new certificate');
pass('TLS: a new certificate needs a reload only');
$offset = $cluster->log_offset('n3');
write_file("$files/cert", "nothing of the kind\n");
$cluster->run_on('n3', {}, 'pg_ctl', '-D', $cluster->data('n3'), 'reload');
$cluster->wait_log('n3', qr/WARNING:  the HTTP endpoint goes on as it was: it holds no certificate/, $offset);
is(serial(), 12, 'TLS: a broken one is not taken');
openssl(qw(genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out), "$files/other.key");
chown $cluster->{uid}, $cluster->{gid}, "$files/other.key";
make_certificate(19);
$offset = $cluster->log_offset('n3');
$cluster->reload_line('n3', 'pg_elector.http_key_file', "$files/other.key");
$cluster->wait_log('n3', qr/WARNING:  the HTTP endpoint goes on as it was: certificate and key do not belong together/, $offset);
is(serial(), 12, 'TLS: nor one with another key');

# The files are gone, and the port is taken, when the server starts: it starts.
unlink "$files/cert";
$cluster->stop('n3');
my $thief = spawn({}, $cluster->network->on('n3'), $^X, '-MIO::Socket::INET', '-e',
	'my $s = IO::Socket::INET->new(LocalPort => 8008, Listen => 1, ReuseAddr => 1) or die; print "here\n"; sleep 600');
$cluster->poll_until(sub { run_command({}, $cluster->network->on('n3'), 'ss', '-ltn')->{out} =~ /:8008/ }, 10, 'the port to be taken');
$offset = $cluster->log_offset('n3');
$cluster->start('n3');
$cluster->wait_log('n3', qr/WARNING:  the HTTP endpoint cannot listen at "0\.0\.0\.0:8008": Address already in use/, $offset);
$cluster->wait_for_follower('n3');
pass('a server whose endpoint finds its port taken starts');
make_certificate(20);
$cluster->reload_line('n3', 'pg_elector.http_key_file', "$files/key");
kill_and_wait('KILL', $thief);
wait_for_http($cluster, 'n3', '/follower', 200, ca => "$files/ca.crt");
pass('and serves when the port is free');

# Off, which is the default.
$cluster->set_line('n3', "pg_elector.http_$_", undef) foreach qw(listen cert_file key_file);
$cluster->restart('n3');
$cluster->wait_for_follower('n3');
is($cluster->process_pid('n3', 'pg_elector http'), undef, 'off: no process');
is(http_status($cluster, 'n3', '/health'), 0, 'off: no endpoint');

done_testing();
