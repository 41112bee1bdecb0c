# ElectorHttp.pm
#
# Questions to the HTTP endpoint of a node, and what its answers have to be.
#
#   my $answer = http_ask($cluster, 'n1', '/leader');    # { status, headers, body, json, ms }
#   my %metrics = parse_metrics(http_ask($cluster, 'n1', '/metrics')->{body});
#
# Each question is a program of its own (curl) in the clients' namespace.  A
# status of 0 means that there was no answer; `error` says why.

package ElectorHttp;

use strict;
use warnings;

use ElectorProcess qw(now run_command);
use Exporter qw(import);
use JSON::PP qw(decode_json);

our @EXPORT = qw(http_ask http_status wait_for_http parse_metrics);

our $port = 8008;

# Options: method, port, ca (of TLS), on (the host that asks), timeout, args (of curl).
sub http_ask
{
	my ($cluster, $node, $path, %opts) = @_;
	my $scheme  = $opts{ca} ? 'https' : 'http';
	my $method  = $opts{method} // 'GET';
	my $timeout = $opts{timeout} // 5;
	my $began   = now();
	my $result  = run_command(
		{ timeout => $timeout + 5 }, $cluster->network->on($opts{on} // 'client'),
		'curl', '-sS', '-i', '--noproxy', '*', '--max-time', $timeout,
		$opts{ca} ? ('--cacert', $opts{ca}) : (),
		$method eq 'HEAD' ? '--head' : ('-X', $method),
		@{ $opts{args} // [] },
		"$scheme://" . $cluster->address($node) . ':' . ($opts{port} // $port) . $path);
	my %answer = (status => 0, headers => {}, body => '', error => $result->{err},
		ms => int(1000 * (now() - $began)));

	if ($result->{out} =~ m{\AHTTP/\S+ (\d+)[^\n]*\n(.*?)\r?\n\r?\n(.*)\z}s)
	{
		my ($status, $headers, $body) = ($1, $2, $3);
		@answer{qw(status body)} = ($status, $body);
		$answer{headers}{ lc $1 } = $2 while $headers =~ /^([^:\r\n]+):[ ]*([^\r\n]*)/mg;
		$answer{json} = decode_json($body) if $body =~ /\A\{/;
	}
	return \%answer;
}

sub http_status { return http_ask(@_)->{status} }

sub wait_for_http
{
	my ($cluster, $node, $path, $wanted, %opts) = @_;
	my $answer;
	$cluster->poll_until(
		sub { $answer = http_ask($cluster, $node, $path, %opts); $answer->{status} == $wanted },
		20, "$path of $node to be $wanted");
	return $answer;
}

# The text format 0.0.4: dies where it is violated.  Returns samples by their name and
# labels as they stand there, without `cluster` and `node`.
sub parse_metrics
{
	my ($text) = @_;
	my (%type, %help, %samples, %closed);
	my $current = '';

	die "the text does not end with a line feed\n" unless $text =~ /\n\z/;
	foreach my $line (split /\n/, $text)
	{
		if ($line =~ /\A# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (\S.*)\z/)
		{
			die "HELP of $1 twice\n" if $help{$1}++;
			next;
		}
		if ($line =~ /\A# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped)\z/)
		{
			die "TYPE of $1 twice\n" if $type{$1};
			die "$1 has no HELP before its TYPE\n" unless $help{$1};
			$closed{$current} = 1;
			$current = $1;
			$type{$1} = $2;
			next;
		}
		my ($name, $labels, $value) =
		  $line =~ /\A([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?[0-9.]+(?:e[+-]?\d+)?|NaN|[+-]Inf)\z/
		  or die "not a line of metrics: $line\n";
		my $family = $type{$name} ? $name : $name =~ s/_(?:sum|count)\z//r;
		die "$name has no TYPE\n" unless $type{$family};
		die "samples of $family are not together\n" unless $family eq $current;
		die "$name: only summaries have _sum and _count\n"
		  if $family ne $name && $type{$family} ne 'summary';
		die "$name: a counter's name ends in _total\n" if $type{$family} eq 'counter' && $name !~ /_total\z/;
		die "$name: a counter is negative\n" if $type{$family} eq 'counter' && $value < 0;

		my %labels;
		my $rest = $labels // '';
		while ($rest =~ s/\A([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)",?//) { $labels{$1} = $2 }
		die "labels of $name: $labels\n" if $rest ne '';
		die "$name lacks the label $_\n" foreach grep { !defined delete $labels{$_} } qw(cluster node);
		my $key = $name . (%labels ? '{' . join(',', map { "$_=$labels{$_}" } sort keys %labels) . '}' : '');
		die "$key twice\n" if exists $samples{$key};
		$samples{$key} = $value;
	}
	return %samples;
}

1;
