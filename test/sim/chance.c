/*
 * chance.c
 *	  Numbers that look random and follow from a seed (splitmix64, by Sebastiano
 *	  Vigna), the same on every machine.
 */
#include "sim.h"

uint64_t
chance_bits(Chance *chance)
{
	uint64_t	z = (chance->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

int64_t
chance_between(Chance *chance, int64_t low, int64_t high)
{
	return high <= low ? low :
		low + (int64_t) (chance_bits(chance) % (uint64_t) (high - low + 1));
}

bool
chance_one_in(Chance *chance, int n)
{
	return n > 0 && chance_bits(chance) % (uint64_t) n == 0;
}
