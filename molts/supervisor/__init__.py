"""Runs the parts of molts on one machine and keeps them running. Knows processes, ports and logs, not Django.

logs        what children print, into rotated files, with every secret blacked out
ports       free ports that stay the same from start to start
process     starting, watching, restarting and ending child processes
guardian    a tiny process that ends all children when the supervisor itself is killed
stack       which parts molts has and how each is started
"""
