# A durability policy of another library, built with the installed header
# (test/policy/each_zone.c): a copy in each of two zones.
use strict;
use warnings;

use Cwd qw(abs_path);
use ElectorCluster;
use ElectorProcess qw(must_run run_command);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use Test::More;

my $directory = tempdir('elector-policy-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $directory;
my $config = $ENV{PG_CONFIG} // 'pg_config';
my $include = must_run({}, $config, '--includedir-server');
must_run({}, 'gcc', '-Wall', '-Werror', '-fPIC', '-shared',
	'-I' . ($include =~ s/\n//r),
	dirname(abs_path(__FILE__)) . '/../policy/each_zone.c', '-o', "$directory/each_zone.so");

my $cluster = ElectorCluster->new(
	nodes    => 3,
	ttl      => '4s',
	settings => {
		shared_preload_libraries   => "pg_elector,$directory/each_zone",
		'pg_elector.durability'    => 'each_zone east west' },
	zones => { n1 => 'east', n2 => 'west', n3 => 'west' })->build;

sub wait_for_names
{
	my ($node, $names) = @_;
	$cluster->poll_until(
		sub { $cluster->psql($node, 'SHOW synchronous_standby_names') eq $names },
		30, "$names on $node");
	return 1;
}

ok(wait_for_names('n1', 'ANY 1 ("n2","n3")'), 'a leader in the east needs one in the west');
my $writer = $cluster->start_writer;
$writer->wait_for_acks(20);

# The west does not acknowledge for the east.
like($cluster->psql('n1', q{SELECT elector_switchover('n2')}), qr/n2/, 'to the west');
is($cluster->wait_for_leader(exclude => 'n1'), 'n2', 'it leads');
ok(wait_for_names('n2', 'ANY 1 ("n1")'), 'a leader in the west needs the one in the east');
$writer->wait_for_acks(20);
$cluster->wait_for_follower($_) foreach qw(n1 n3);
$cluster->kill_all('n1');
my $waiting = $cluster->session('n2');
$waiting->send('INSERT INTO rows (n) VALUES (-1)');
ok($waiting->finish(3)->{timed_out}, 'without the east a commit waits');
is($cluster->psql('n3', 'SELECT bool_or(safe) FROM elector_durability'), 'f', 'elector_durability knows the policy, too');
$cluster->revive('n1');
$cluster->start('n1');
ok($waiting->finish(30)->{ok}, 'and is acknowledged when it is back');

# In an election the one in the east has all that was acknowledged.
$cluster->wait_for_follower('n1');
$cluster->kill_all('n2');
my $new = $cluster->wait_for_leader(exclude => 'n2', timeout => 30);
ok(defined $new, "$new leads");
$cluster->revive('n2');
$cluster->start('n2');
$cluster->wait_for_follower($_, 60) foreach grep { $_ ne $new } $cluster->nodes;
$writer->wait_for_acks(20);

like($cluster->try_psql($new, q{ALTER SYSTEM SET pg_elector.durability = 'each_zone east'})->{err},
	qr/names of two zones/, 'its check is asked');
$cluster->stop($_) foreach grep { $_ ne $new } $cluster->nodes;
$cluster->stop($new);
$cluster->set_line($new, 'shared_preload_libraries', 'pg_elector');
ok(!$cluster->run_on($new, {}, 'pg_ctl', '-w', '-D', $cluster->data($new), '-l', $cluster->log($new), 'start')->{ok},
	'without the library the server does not start');
like($cluster->log_since($new), qr/"each_zone east west".*\n.*there is no such policy/, 'and says why');

$writer->stop;
done_testing();
