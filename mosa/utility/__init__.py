"""Is the model still useful?"""
