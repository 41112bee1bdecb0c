# Logical replication into and out of a leader whose gate closes by the clock,
# since etcd is gone: nothing of a publisher is committed, not even what was
# prepared before, and nothing is decoded.  It goes on when etcd is back.
use strict;
use warnings;

use ElectorCluster;
use ElectorProcess qw(spawn process_alive);
use Test::More;

my %settings = (wal_level => 'logical', max_prepared_transactions => 10, wal_retrieve_retry_interval => '300ms');
my $outside = ElectorCluster->new(nodes => 1, plain => 1, settings => {%settings});
$outside->init_first('n1');
$outside->start('n1');
$outside->psql('n1', $_) foreach (
	'CREATE TABLE published (n int PRIMARY KEY)',
	'CREATE PUBLICATION everything FOR TABLE published');

my $cluster = ElectorCluster->new(nodes => 2, settings => { %settings, 'pg_elector.failsafe' => 'off' })->build;
my $term = $cluster->term('n1');
$cluster->psql('n1', $_) foreach (
	'CREATE TABLE published (n int PRIMARY KEY)',
	"CREATE SUBSCRIPTION inward CONNECTION '" . $outside->conninfo('n1') . "' PUBLICATION everything WITH (two_phase = on, disable_on_error = on)",
	'CREATE ROLE decoder LOGIN REPLICATION');
$cluster->poll_until(sub { $cluster->psql('n1', 'SELECT subtwophasestate FROM pg_subscription') eq 'e' },
	30, 'two_phase to be on');

sub workers { return $cluster->psql('n1', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'logical replication worker'}) }

# Somebody who decodes; a transaction that is prepared on both sides.
my @decode = ($cluster->bindir . '/pg_recvlogical', '-d', $cluster->conninfo('n1', user => 'decoder'), '--slot', 'outward', '--no-loop');
ok($cluster->run_on('n1', {}, @decode, '--create-slot')->{ok}, 'open: a slot');
my $decoder = spawn({ log => $cluster->base . '/decoder.log' }, $cluster->as_user('n1'), @decode, '--start', '-f', $cluster->base . '/decoded');
$cluster->poll_until(sub { $cluster->psql('n1', q{SELECT active FROM pg_replication_slots WHERE slot_name = 'outward'}) eq 't' },
	20, 'the decoder to start');
my $publisher = $outside->session('n1', user => 'postgres');
$publisher->query($_) foreach ('BEGIN', 'INSERT INTO published VALUES (1)', q{PREPARE TRANSACTION 'before'});
$cluster->poll_until(sub { $cluster->psql('n1', 'SELECT count(*) FROM pg_prepared_xacts') == 1 }, 20, 'it to be prepared here');
my $session = $cluster->session('n1');
my $offset  = $cluster->log_offset('n1');

$cluster->kill_etcd;
$cluster->poll_until(sub { $session->query('SELECT 1')->{sqlstate} eq '25006' }, 15, 'the gate to close');
$cluster->wait_log('n1', qr/terminating logical replication worker/, $offset);
pass('closed: the apply worker is ended');
$cluster->poll_until(sub { !process_alive($decoder) }, 20, 'the decoder to end');
pass('closed: so is who decodes');

$outside->psql('n1', q{COMMIT PREPARED 'before'});
$outside->psql('n1', 'INSERT INTO published VALUES (2)');
$offset = $cluster->log_offset('n1');
$cluster->wait_log('n1', qr/(?:cannot apply changes.*){2}/s, $offset);
pass('closed: it is started again and again, in vain');
is($cluster->psql('n1', 'SELECT count(*) FROM pg_prepared_xacts'), 1, 'closed: what was prepared is not committed');
is($cluster->psql('n1', 'SELECT count(*) FROM published'), 0, 'closed: no row has come');
foreach my $user (qw(postgres decoder))
{
	my $result = $cluster->run_on('n1', {}, $decode[0], '-d', $cluster->conninfo('n1', user => $user),
		'--slot', 'outward', '--no-loop', '--start', '-f', '-');
	like($result->{err}, qr/does not accept connections now/, "closed: $user may not decode");
}

$cluster->start_etcd;
$cluster->poll_until(sub { $session->query('SELECT 1')->{ok} }, 20, 'the gate to open');
is($cluster->term('n1'), $term, 'back: the same leadership');
$cluster->poll_until(sub { $cluster->psql('n1', 'SELECT count(*) FROM published') == 2 }, 20, 'the rows to come');
is(workers(), 1, 'back: the subscription goes on');
is($cluster->psql('n1', 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'back: what was prepared is committed');
$cluster->psql('n1', 'DROP SUBSCRIPTION inward');
$cluster->psql('n1', q{SELECT pg_drop_replication_slot('outward')});

done_testing();
