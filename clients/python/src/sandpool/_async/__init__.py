"""The client for asyncio. The one for threads, _sync, is made of it by generate.sh."""
