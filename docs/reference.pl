#!/usr/bin/perl
#
# docs/reference.pl
#	  Write docs/reference.md from what a server with the extension says of itself.
#
#	  docs/reference.pl BINDIR CONNINFO >docs/reference.md
#
# Settings and their descriptions are in src/server/settings.c, comments of SQL objects
# in pg_elector--1.0.sql, the usage in src/program/main.c: they are changed there.
# test/t/055_reference.pl fails when the page is not what this writes; run with
# ELECTOR_WRITE_REFERENCE=1 it writes the page.
use strict;
use warnings;

use JSON::PP qw(decode_json);

my ($bindir, $conninfo) = @ARGV;
die "usage: docs/reference.pl BINDIR CONNINFO\n" unless defined $conninfo;

sub rows
{
	my ($query) = @_;
	open(my $psql, '-|', "$bindir/psql", '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $conninfo, '-c',
		"SELECT coalesce(json_agg(r), '[]') FROM ($query) AS r") or die "could not start psql: $!\n";
	local $/;
	my $text = <$psql>;
	close($psql) or die "psql failed\n";
	return @{ decode_json($text) };
}

# A sentence: with a capital letter, unless it begins with a name, and a full stop.
sub sentence
{
	my ($text) = @_;
	return '' unless defined $text && length $text;
	$text =~ s/  +/ /g;
	$text =~ s/\|/\\|/g;
	$text =~ s/</&lt;/g;
	$text =~ s/(?<![\w"\/.])(\w+_\w+(?:\.\w+)*(?:\(\))?)(?!\w)/`$1`/g;
	$text = ucfirst $text unless $text =~ /^libpq/;
	$text .= '.' unless $text =~ /[.!?]$/;
	return $text;
}

# In the largest unit that it is a whole number of.
sub value
{
	my ($number, $unit) = @_;
	return $number unless defined $unit;
	return $number if $number <= 0;
	my @larger = $unit eq 'ms' ? ([ 's', 1000 ], [ 'min', 60 ], [ 'h', 60 ]) :
	  $unit eq 's' ? ([ 'min', 60 ], [ 'h', 60 ]) : $unit eq 'kB' ? ([ 'MB', 1024 ], [ 'GB', 1024 ]) : ();
	foreach my $step (@larger)
	{
		last if $number % $step->[1];
		($unit, $number) = ($step->[0], $number / $step->[1]);
	}
	return "$number$unit";
}

my %changes = (
	postmaster => 'a restart', sighup => 'a reload', superuser => 'SET by superusers', user => 'SET',
	backend => 'the connection');

print <<'END';
# Reference

Written by `docs/reference.pl` from what a server says of itself: `pg_settings`, the comments
of the extension's objects (`\d+`, `\df+`), and `pg_elector --help`. What things are for, and
how they work together, is on the [other pages](README.md).

## Settings

A value that is not valid is refused when it is set, and at the start. What the library sets
itself is [another matter](operating.md#what-the-library-writes).

END
foreach my $row (rows(q{SELECT name, boot_val, unit, vartype, min_val, max_val, enumvals, context, short_desc, extra_desc
		FROM pg_settings WHERE name LIKE 'pg\_elector.%' ORDER BY name}))
{
	my $default = $row->{vartype} =~ /^(integer|real)$/ ? value($row->{boot_val}, $row->{unit}) : $row->{boot_val};
	my @facts = (defined $default && length $default ? "Default `$default`" : 'Empty by default');
	push @facts, 'a number' . (defined $row->{unit} ? " in $row->{unit} unless it says another unit" : '')
	  . ' from ' . value($row->{min_val}, $row->{unit})
	  . ($row->{max_val} < 1_000_000_000 ? ' to ' . value($row->{max_val}, $row->{unit}) : ' on')
	  if $row->{vartype} eq 'integer';
	push @facts, 'one of ' . join(', ', map { "`$_`" } @{ $row->{enumvals} }) if $row->{enumvals};
	push @facts, '`on` or `off`' if $row->{vartype} eq 'bool';
	push @facts, 'changes with ' . $changes{ $row->{context} };
	print "### `$row->{name}`\n\n", join(' ', grep { length } sentence($row->{short_desc}), sentence($row->{extra_desc})),
	  "\n", join('; ', @facts), ".\n\n";
}

my $members = q{FROM pg_depend AS d JOIN pg_extension AS e ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass
	WHERE e.extname = 'pg_elector' AND d.deptype = 'e'};

print "## Views\n\nEverybody may read them.\n\n";
foreach my $view (rows("SELECT c.oid, c.relname, obj_description(c.oid, 'pg_class') AS comment
		FROM pg_class AS c WHERE c.relkind = 'v' AND c.oid IN (SELECT d.objid $members AND d.classid = 'pg_class'::regclass)
		ORDER BY c.relname"))
{
	print "### `$view->{relname}`\n\n", sentence($view->{comment}), "\n\n| column | type | |\n| --- | --- | --- |\n";
	foreach my $column (rows("SELECT attname, format_type(atttypid, atttypmod) AS type, col_description(attrelid, attnum) AS comment
			FROM pg_attribute WHERE attrelid = $view->{oid} AND attnum > 0 AND NOT attisdropped ORDER BY attnum"))
	{
		print "| `$column->{attname}` | $column->{type} | ", sentence($column->{comment}), " |\n";
	}
	print "\n";
}

print "## Functions\n\n";
my @internal;
foreach my $function (rows("SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments,
		pg_get_function_result(p.oid) AS result, obj_description(p.oid, 'pg_proc') AS comment,
		has_function_privilege('public', p.oid, 'EXECUTE') AS everybody
		FROM pg_proc AS p WHERE p.oid IN (SELECT d.objid $members AND d.classid = 'pg_proc'::regclass)
		ORDER BY p.proname"))
{
	if ($function->{proname} =~ /_rows$|^elector_(?:report|fence|establish|promise)$/)
	{
		push @internal, $function;
		next;
	}
	my (@in, @out);
	foreach my $argument (split /, /, $function->{arguments})
	{
		$argument =~ s/::[a-z ]+$//;
		$argument =~ s/timestamp with time zone/timestamptz/;
		push @{ $argument =~ s/^OUT // ? \@out : \@in }, $argument;
	}
	print "### `$function->{proname}(", join(', ', @in), ")`\n\n", sentence($function->{comment}), "\n",
	  "Returns `", (@out ? join(', ', @out) : $function->{result}), '`. ',
	  ($function->{everybody} ? 'Everybody may call it.' : 'Superusers may call it, and whom they grant it to.'), "\n\n";
}
print "### Not to be called\n\nThe views, and the other nodes, use these.\n\n| | |\n| --- | --- |\n";
print "| `$_->{proname}` | ", sentence($_->{comment}), " |\n" foreach @internal;

open(my $help, '-|', "$bindir/pg_elector", '--help') or die "could not start pg_elector: $!\n";
print "\n## The program `pg_elector`\n\n```text\n", <$help>, "```\n";
close($help) or die "pg_elector failed\n";
