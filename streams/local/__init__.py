"""Kafka and Neo4j on this machine, and processes that do not outlive their owner.

services.py   configured, running or newly started services ──> Endpoints
process.py    starts one service for a state folder, or finds it running
   ├── state.py        the files of a service in the state folder; what runs there
   ├── java.py         the Java command line      kafka.py, neo4j.py   the two services
   ├── jars.py         downloads and checks jars  maven_repository.py  where they come from
   └── supervisor.py   launches a command under a watchdog
passwords.py  what the services ask for, kept beside their data
probe.py      whether a server answers            machine.py           disk, memory, ports
"""
