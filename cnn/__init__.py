"""Pictures and networks: everything the pipeline knows about them. Never imports Prefect."""
