"""The week of a site, that is of what one or several edges look after; and what changed by a round, as pictures."""
